/**
 * Fetches MySQL from the mirror of this machine's distribution (Debian, Ubuntu), and unpacks it
 * into the cache folder of the user. This needs no root and changes nothing in the system.
 */
import { mkdir, rename, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../command.ts';
import { errorCode, MysqlServerError, WAYS_TO_GET_MYSQL } from '../error.ts';
import { findProgram } from '../locate.ts';
import { examineMysqld } from '../mysqld.ts';
import type { Mysqld } from '../mysqld.ts';
import { chooseMirrors, readDistribution, readSources } from './apt.ts';
import type { Distribution } from './apt.ts';
import { downloadPackages, copyName, describeCopy, fetchFailed } from './download.ts';
import type { FetchOptions, FetchPlan } from './download.ts';
import { makePartialFolder, removeStalePartials, isFolder, isFile } from './files.ts';

/** The disk limits unpacking as much as the processor does. */
const UNPACK_CONCURRENCY = 4;

/** The largest package takes 2 s on an ordinary machine. */
const UNPACK_TIMEOUT_MS = 300_000;

/**
 * The mysqld of an earlier fetch. A copy that cannot run is removed.
 *
 * @returns undefined when there is no usable copy
 */
export async function cachedMysqld(options: FetchOptions): Promise<Mysqld | undefined> {
  const root = join(options.cacheFolder, copyName());
  if (!(await isFolder(root))) return undefined;
  const examined = await examineCopy(root, options.signal);
  if (examined.usable) return examined.mysqld;
  options.print(`Removing the copy of MySQL in ${root}, which ${examined.reason}.`);
  // The rename comes first, because an interrupted removal must not look like a complete copy.
  const partial = await makePartialFolder(options.cacheFolder, copyName());
  await rename(root, join(partial, 'root'));
  await rm(partial, { recursive: true, force: true });
  return undefined;
}

/**
 * Fetches and unpacks MySQL. Only a complete copy gets the final name. Of two fetches at the same
 * time, both use the copy of the one that ends first.
 *
 * @throws MysqlServerError with the last lines of the program that failed, or the abort reason;
 *   no incomplete copy is left
 */
export async function fetchMysqld(options: FetchOptions): Promise<Mysqld> {
  const plan = await planFetch(options);
  await removeStalePartials(options.cacheFolder, copyName());
  const partial = await makePartialFolder(options.cacheFolder, copyName());
  try {
    const root = join(partial, 'root');
    const archives = await downloadPackages(plan, join(partial, 'apt'), options);
    options.print(`Unpacking ${archives.length} packages.`);
    await unpackAll(plan, archives, root, options.signal);
    const examined = await examineCopy(root, options.signal);
    if (!examined.usable) throw fetchFailed(`the unpacked mysqld ${examined.reason}`, '');
    await giveFinalName(root, join(options.cacheFolder, copyName()));
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  const mysqld = await cachedMysqld(options);
  if (!mysqld) throw fetchFailed('another process has removed the unpacked copy', '');
  options.print(`MySQL ${mysqld.versionText} is ready in ${options.cacheFolder}.`);
  return mysqld;
}

async function examineCopy(root: string, signal: AbortSignal | undefined) {
  const launch = await describeCopy(root);
  if (!launch) return { usable: false, reason: 'is not complete' } as const;
  return examineMysqld(launch, signal);
}

/** The first failure aborts the other packages. */
async function unpackAll(
  plan: FetchPlan,
  archives: readonly string[],
  root: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  await mkdir(root, { mode: 0o700 });
  const failure = new AbortController();
  const either = signal ? AbortSignal.any([signal, failure.signal]) : failure.signal;
  const waiting = [...archives];
  const worker = async () => {
    for (let archive = waiting.pop(); archive !== undefined; archive = waiting.pop()) {
      await unpack(plan, archive, root, either);
    }
  };
  const workers = Array.from({ length: UNPACK_CONCURRENCY }, () => worker().catch((error) => {
    failure.abort(error);
    throw error;
  }));
  // The caller removes the folder on failure, so every worker ends first.
  await Promise.allSettled(workers);
  await Promise.all(workers);
}

async function unpack(plan: FetchPlan, archive: string, root: string, signal: AbortSignal) {
  const end = await runCommand(plan.dpkgDeb, ['-x', archive, root], {
    timeoutMs: UNPACK_TIMEOUT_MS,
    signal,
  });
  if (!end.succeeded) throw fetchFailed(`unpacking ${archive} failed`, end.output);
}

/** When the name exists, another fetch was faster, and its copy is equally good. */
async function giveFinalName(root: string, final: string): Promise<void> {
  try {
    await rename(root, final);
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST'].includes(errorCode(error) ?? '')) throw error;
  }
}

/** The packages and their unpacked content take 350 MB on amd64. */
const NEEDED_BYTES = 500_000_000;

const DPKG_TIMEOUT_MS = 20_000;

/**
 * Determines how to fetch MySQL on this machine, before anything is fetched.
 *
 * @throws MysqlServerError with what is missing, and other ways to provide a MySQL
 */
async function planFetch(options: FetchOptions): Promise<FetchPlan> {
  const distribution = await readDistribution(options.etcFolder);
  if (!distribution) throw cannotFetch('this system is neither Debian nor Ubuntu');
  const [aptGet, dpkgDeb, dpkg] = await Promise.all(
    ['apt-get', 'dpkg-deb', 'dpkg'].map((name) => findProgram(name, options.searchPath)),
  );
  if (!aptGet || !dpkgDeb || !dpkg) throw cannotFetch('apt-get or dpkg is not on the PATH');
  const mirrors = chooseMirrors(await readSources(options.etcFolder), distribution);
  if (mirrors.length === 0) {
    throw cannotFetch(`the lists of apt name no mirror of ${distribution.kind}`);
  }
  const keyring = await findKeyring(distribution, options.keyringFolder);
  await requireSpace(options.cacheFolder);
  const architecture = await askArchitecture(dpkg, options.signal);
  return { aptGet, dpkgDeb, architecture, distribution, mirrors, keyring };
}

function cannotFetch(why: string): MysqlServerError {
  return new MysqlServerError([
    'No usable MySQL was found on this machine (mysqld 8.0.19 or later),',
    `and none can be fetched: ${why}.`,
    WAYS_TO_GET_MYSQL,
  ]);
}

async function findKeyring({ kind }: Distribution, folder: string): Promise<string> {
  for (const ending of ['gpg', 'pgp']) {
    const path = `${folder}/${kind}-archive-keyring.${ending}`;
    if (await isFile(path)) return path;
  }
  throw cannotFetch(`the keyring of the archive is not installed (${kind}-archive-keyring)`);
}

async function requireSpace(cacheFolder: string): Promise<void> {
  await mkdir(cacheFolder, { recursive: true, mode: 0o700 });
  const { bavail, bsize } = await statfs(cacheFolder);
  if (bavail * bsize >= NEEDED_BYTES) return;
  throw cannotFetch(`${cacheFolder} has less than ${NEEDED_BYTES / 1_000_000} MB of free space`);
}

async function askArchitecture(dpkg: string, signal: AbortSignal | undefined): Promise<string> {
  const end = await runCommand(dpkg, ['--print-architecture'], {
    timeoutMs: DPKG_TIMEOUT_MS,
    signal,
  });
  const architecture = end.output.trim();
  if (end.succeeded && /^[a-z0-9]+$/.test(architecture)) return architecture;
  throw cannotFetch('dpkg does not print the architecture of this machine');
}
