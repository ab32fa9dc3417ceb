/**
 * Fetches MySQL from the mirror of this machine's own distribution (Debian, Ubuntu) and unpacks
 * it into the user's cache folder: without root, and without a change to the system.
 */
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { downloadPackages } from './apt-download.ts';
import { runCommand } from './command.ts';
import { fetchFailed, planFetch } from './fetch-plan.ts';
import type { FetchPlan } from './fetch-plan.ts';
import { errorCode } from './local-server-error.ts';
import { examineMysqld } from './mysqld-program.ts';
import type { Mysqld } from './mysqld-program.ts';
import { makePartialFolder, removeStalePartials } from './partial-folder.ts';
import { isFolder } from './present-files.ts';
import { copyName, describeCopy } from './unpacked-copy.ts';

/** Unpacking is bound by the disk as much as by the processor. */
const UNPACKED_AT_ONCE = 4;

/** The largest package takes 2 s on an ordinary machine. */
const UNPACK_TIMEOUT_MS = 300_000;

/** What a fetch needs to know of the machine and of the user's wishes. */
export type FetchOptions = Readonly<{
  searchPath: string;
  cacheFolder: string;
  /** Where the system's settings are: `/etc`. */
  etcFolder: string;
  /** Where the archive's keyring is installed: `/usr/share/keyrings`. */
  keyringFolder: string;
  say: (line: string) => void;
  signal?: AbortSignal | undefined;
}>;

/**
 * The copy that an earlier fetch completed.
 *
 * @returns undefined when there is none. One that cannot run is removed, to be fetched again.
 */
export async function cachedMysqld(options: FetchOptions): Promise<Mysqld | undefined> {
  const root = join(options.cacheFolder, copyName());
  if (!(await isFolder(root))) return undefined;
  const examined = await examineCopy(root, options.signal);
  if (examined.usable) return examined.mysqld;
  options.say(`The copy of MySQL in ${root} ${examined.reason}: it is removed.`);
  // Under another name first: a folder that is being removed must not look complete.
  const partial = await makePartialFolder(options.cacheFolder, copyName());
  await rename(root, join(partial, 'root'));
  await rm(partial, { recursive: true, force: true });
  return undefined;
}

/**
 * Fetches and unpacks MySQL. Only a complete copy gets the final name; of two fetches at once
 * the first to end gives its copy to both.
 *
 * @throws LocalServerError with the last lines of the program that failed, or the abort reason;
 *   nothing is left that a later start would use
 */
export async function fetchMysqld(options: FetchOptions): Promise<Mysqld> {
  const plan = await planFetch(options);
  await removeStalePartials(options.cacheFolder, copyName());
  const partial = await makePartialFolder(options.cacheFolder, copyName());
  try {
    const root = join(partial, 'root');
    const archives = await downloadPackages(plan, join(partial, 'apt'), options);
    options.say(`Unpacking ${archives.length} packages.`);
    await unpackAll(plan, archives, root, options.signal);
    const examined = await examineCopy(root, options.signal);
    if (!examined.usable) throw fetchFailed(`the unpacked mysqld ${examined.reason}`, '');
    await giveFinalName(root, join(options.cacheFolder, copyName()));
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  const mysqld = await cachedMysqld(options);
  if (!mysqld) throw fetchFailed('the unpacked copy disappeared again', '');
  options.say(`MySQL ${mysqld.versionText} is ready in ${options.cacheFolder}.`);
  return mysqld;
}

async function examineCopy(root: string, signal: AbortSignal | undefined) {
  const launch = await describeCopy(root);
  if (!launch) return { usable: false, reason: 'is not complete' } as const;
  return examineMysqld(launch, signal);
}

/** A few packages at a time; the first failure ends the others. */
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
  const workers = Array.from({ length: UNPACKED_AT_ONCE }, () => worker().catch((error) => {
    failure.abort(error);
    throw error;
  }));
  // All have ended before anything is removed under them.
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

/** A rename is all or nothing. Another fetch may have been faster: its copy is as good. */
async function giveFinalName(root: string, final: string): Promise<void> {
  try {
    await rename(root, final);
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST'].includes(errorCode(error) ?? '')) throw error;
  }
}
