/**
 * Fetches MySQL, or another program, from the mirror of this machine's distribution (Debian,
 * Ubuntu), and unpacks it into the cache folder of the user. This needs no root and changes nothing
 * in the system.
 */
import { mkdir, rename, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../command.ts';
import { errorCode, MysqlServerError, WAYS_TO_GET_MYSQL } from '../error.ts';
import { findProgram } from '../locate.ts';
import { examineMysqld } from '../mysqld.ts';
import type { Mysqld, MysqldLaunch } from '../mysqld.ts';
import { chooseMirrors, readDistribution, readSources } from './apt.ts';
import type { Distribution } from './apt.ts';
import { copyNameOf, downloadPackages, fetchFailed, launchFrom } from './download.ts';
import type { FetchOptions, FetchPlan, Wanted } from './download.ts';
import { makePartialFolder, removeStalePartials, isFolder, isFile } from './files.ts';

/** The disk limits unpacking as much as the processor does. */
const UNPACK_CONCURRENCY = 4;

/** The largest package takes 2 s on an ordinary machine. */
const UNPACK_TIMEOUT_MS = 300_000;

export const MYSQL: Wanted = Object.freeze({
  product: 'MySQL',
  packages: ['mysql-server-core', 'mysql-server-core-8.4', 'mysql-server-core-8.0'],
  copyName: copyNameOf('mysql'),
  ways: WAYS_TO_GET_MYSQL,
});

/**
 * The mysqld of an earlier fetch. A copy that cannot run is removed.
 *
 * @returns undefined when there is no usable copy
 */
export async function cachedMysqld(options: FetchOptions): Promise<Mysqld | undefined> {
  const root = join(options.cacheFolder, MYSQL.copyName);
  if (!(await isFolder(root))) return undefined;
  const examined = await examineCopy(root, options.signal);
  if (examined.usable) return examined.mysqld;
  options.print(`Removing the copy of MySQL in ${root}, which ${examined.reason}.`);
  // The rename comes first, because an interrupted removal must not look like a complete copy.
  const partial = await makePartialFolder(options.cacheFolder, MYSQL.copyName);
  await rename(root, join(partial, 'root'));
  await rm(partial, { recursive: true, force: true });
  return undefined;
}

/**
 * Fetches and unpacks MySQL.
 *
 * @throws MysqlServerError as fetchCopy does
 */
export async function fetchMysqld(options: FetchOptions): Promise<Mysqld> {
  await fetchCopy(MYSQL, options, async (root) => {
    const examined = await examineCopy(root, options.signal);
    return examined.usable ? null : `the unpacked mysqld ${examined.reason}`;
  });
  const mysqld = await cachedMysqld(options);
  if (!mysqld) throw fetchFailed(MYSQL, 'another process has removed the unpacked copy', '');
  options.print(`MySQL ${mysqld.versionText} is ready in ${options.cacheFolder}.`);
  return mysqld;
}

/**
 * Fetches and unpacks a package with its libraries. Only a complete copy gets the final name. Of
 * two fetches at the same time, both use the copy of the one that ends first.
 *
 * @param findFault says what is wrong with the unpacked copy, or returns null
 * @throws MysqlServerError with the last lines of the program that failed, or the abort reason;
 *   no incomplete copy is left
 */
export async function fetchCopy(
  wanted: Wanted,
  options: FetchOptions,
  findFault: (root: string) => Promise<string | null>,
): Promise<void> {
  const { cacheFolder, print, signal } = options;
  const plan = await planFetch(wanted, options);
  await removeStalePartials(cacheFolder, wanted.copyName);
  const partial = await makePartialFolder(cacheFolder, wanted.copyName);
  try {
    const root = join(partial, 'root');
    const archives = await downloadPackages(plan, join(partial, 'apt'), options);
    print(`Unpacking ${archives.length} packages.`);
    await unpackAll(plan, archives, root, signal);
    const fault = await findFault(root);
    if (fault !== null) throw fetchFailed(wanted, fault, '');
    await giveFinalName(root, join(cacheFolder, wanted.copyName));
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}

async function examineCopy(root: string, signal: AbortSignal | undefined) {
  const launch = await describeCopy(root);
  if (!launch) return { usable: false, reason: 'is not complete' } as const;
  return examineMysqld(launch, signal);
}

async function describeCopy(root: string): Promise<MysqldLaunch | undefined> {
  const launch = await launchFrom(root, 'usr/sbin/mysqld');
  const share = join(root, 'usr/share/mysql');
  return launch && {
    ...launch,
    layout: [
      `--basedir=${join(root, 'usr')}`,
      `--lc-messages-dir=${share}`,
      `--character-sets-dir=${join(share, 'charsets')}`,
      `--plugin-dir=${join(root, 'usr/lib/mysql/plugin')}`,
    ],
  };
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
  if (!end.succeeded) throw fetchFailed(plan.wanted, `unpacking ${archive} failed`, end.output);
}

/** When the name exists, another fetch was faster, and its copy is equally good. */
async function giveFinalName(root: string, final: string): Promise<void> {
  try {
    await rename(root, final);
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST'].includes(errorCode(error) ?? '')) throw error;
  }
}

/** The packages of MySQL and their unpacked content take 350 MB on amd64. */
const NEEDED_BYTES = 500_000_000;

const DPKG_TIMEOUT_MS = 20_000;

/**
 * Determines how to fetch on this machine, before anything is fetched.
 *
 * @throws MysqlServerError with what is missing, and other ways to provide what is wanted
 */
async function planFetch(wanted: Wanted, options: FetchOptions): Promise<FetchPlan> {
  const cannotFetch = (why: string): MysqlServerError => new MysqlServerError([
    `No usable ${wanted.product} was found on this machine,`, `and none can be fetched: ${why}.`,
    wanted.ways,
  ]);
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
  if (keyring === undefined) {
    const name = `${distribution.kind}-archive-keyring`;
    throw cannotFetch(`the keyring of the archive is not installed (${name})`);
  }
  if (!(await hasSpace(options.cacheFolder))) {
    const megabytes = NEEDED_BYTES / 1_000_000;
    throw cannotFetch(`${options.cacheFolder} has less than ${megabytes} MB of free space`);
  }
  const architecture = await askArchitecture(dpkg, options.signal);
  if (architecture === undefined) {
    throw cannotFetch('dpkg does not print the architecture of this machine');
  }
  return { wanted, aptGet, dpkgDeb, architecture, distribution, mirrors, keyring };
}

async function findKeyring(
  { kind }: Distribution,
  folder: string,
): Promise<string | undefined> {
  for (const ending of ['gpg', 'pgp']) {
    const path = `${folder}/${kind}-archive-keyring.${ending}`;
    if (await isFile(path)) return path;
  }
  return undefined;
}

async function hasSpace(cacheFolder: string): Promise<boolean> {
  await mkdir(cacheFolder, { recursive: true, mode: 0o700 });
  const { bavail, bsize } = await statfs(cacheFolder);
  return bavail * bsize >= NEEDED_BYTES;
}

async function askArchitecture(
  dpkg: string,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const end = await runCommand(dpkg, ['--print-architecture'], {
    timeoutMs: DPKG_TIMEOUT_MS,
    signal,
  });
  const architecture = end.output.trim();
  return end.succeeded && /^[a-z0-9]+$/.test(architecture) ? architecture : undefined;
}
