/** Whether and how this machine can fetch MySQL: its programs, its archive, its keyring. */
import { mkdir, statfs } from 'node:fs/promises';
import { chooseMirrors, readDistribution, readSources } from './apt-sources.ts';
import type { Distribution } from './apt-sources.ts';
import { lastLines, runCommand } from './command.ts';
import type { FetchOptions } from './fetch-mysql.ts';
import { LocalServerError, WAYS_TO_GET_MYSQL } from './local-server-error.ts';
import { findProgram } from './locate.ts';
import { isFile } from './present-files.ts';

/** Packages and their unpacked content together, with room to spare (350 MB on amd64). */
const NEEDED_BYTES = 500_000_000;

const QUESTION_TIMEOUT_MS = 20_000;

/** The last lines of a program that failed hold the reason. */
const ERROR_LINES = 8;

/** Everything that is known before the first byte is fetched. */
export type FetchPlan = Readonly<{
  aptGet: string;
  dpkgDeb: string;
  /** As dpkg names it: `amd64`, `arm64`, … */
  architecture: string;
  distribution: Distribution;
  /** Addresses of the archive, the likeliest first. */
  mirrors: readonly string[];
  /** The path of the keyring that everything must be signed by. */
  keyring: string;
}>;

/**
 * Finds out how to fetch MySQL on this machine.
 *
 * @throws LocalServerError saying what is missing, with the ways to get MySQL
 */
export async function planFetch(options: FetchOptions): Promise<FetchPlan> {
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

/**
 * The error of a fetch that began and failed.
 *
 * @param what the middle of the sentence
 * @param output what the failing program wrote last, or nothing
 */
export function fetchFailed(what: string, output: string): LocalServerError {
  const lines = lastLines(output, ERROR_LINES).map((line) => `  ${line}`);
  return new LocalServerError([
    `MySQL could not be fetched: ${what}.`,
    ...lines,
    'Nothing half-done was kept; starting again tries again.',
    WAYS_TO_GET_MYSQL,
  ]);
}

function cannotFetch(why: string): LocalServerError {
  return new LocalServerError([
    'There is no usable MySQL on this machine (no mysqld 8.0.19 or later was found),',
    `and otpd cannot fetch one: ${why}.`,
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
    timeoutMs: QUESTION_TIMEOUT_MS,
    signal,
  });
  const architecture = end.output.trim();
  if (end.succeeded && /^[a-z0-9]+$/.test(architecture)) return architecture;
  throw cannotFetch('dpkg does not tell the architecture of this machine');
}
