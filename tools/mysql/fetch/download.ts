/** Downloads packages with apt-get, and finds a program in their unpacked content. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { STATUS_DESCRIPTOR, runCommand, lastLines } from '../command.ts';
import type { CommandEnd } from '../command.ts';
import { MysqlServerError } from '../error.ts';
import { aptConfiguration, aptFiles, aptSource, aptStatus } from './apt.ts';
import type { AptFiles, Distribution } from './apt.ts';
import { namesIn, isFile } from './files.ts';

/** Enough for 60 MB over a slow line. apt-get gives up on a silent line by itself. */
const FETCH_TIMEOUT_MS = 1_800_000;

/** One line of progress is printed for each step. */
const PROGRESS_STEP_PERCENT = 20;

const BYTES_PER_MB = 1_000_000;

/** The last lines of a failed program usually contain the reason. */
const ERROR_LINES = 8;

/** What is fetched. */
export type Wanted = Readonly<{
  /** As errors and progress name it. */
  product: string;
  /** The names of the package in Debian and Ubuntu, in order of preference. */
  packages: readonly string[];
  /** The name of the copy in the cache folder. */
  copyName: string;
  /** The last lines of every error: other ways to provide it. */
  ways: string;
}>;

/** The name of a copy for this machine: several machines may share a home folder. */
export function copyNameOf(program: string): string {
  return `${program}-${process.platform}-${process.arch}`;
}

/** The machine and the settings of the user. */
export type FetchOptions = Readonly<{
  searchPath: string;
  cacheFolder: string;
  /** The settings of the system: `/etc`. */
  etcFolder: string;
  /** The keyrings of the archives: `/usr/share/keyrings`. */
  keyringFolder: string;
  print: (line: string) => void;
  signal?: AbortSignal | undefined;
}>;

/** How to fetch it on this machine. */
export type FetchPlan = Readonly<{
  wanted: Wanted;
  aptGet: string;
  dpkgDeb: string;
  /** In the spelling of dpkg: `amd64`, `arm64`, … */
  architecture: string;
  distribution: Distribution;
  /** URLs of the archive, the most likely one first. */
  mirrors: readonly string[];
  /** The path of the keyring that must have signed the archive. */
  keyring: string;
}>;

/**
 * Downloads a package and the libraries that it depends on.
 *
 * @param folder receives every file that apt-get writes; it is created
 * @returns the paths of the packages
 * @throws MysqlServerError with the last lines of apt-get, or the abort reason
 */
export async function downloadPackages(
  plan: FetchPlan,
  folder: string,
  options: FetchOptions,
): Promise<string[]> {
  const files = aptFiles(folder);
  await prepareApt(plan, files);
  const apt = (parameters: readonly string[], onPercent: (percent: number) => void = () => {}) =>
    runApt(plan, files, parameters, onPercent, options.signal);
  await readLists(plan, files, apt, options.print);
  const { name, bytes } = await choosePackage(plan.wanted, apt);
  const size = `${Math.ceil(bytes / BYTES_PER_MB)} MB`;
  options.print(`Fetching ${name} and the libraries it needs (${size}).`);
  const end = await apt(
    ['--download-only', 'install', name],
    stepwise((percent) => options.print(`  ${percent} % of ${size}`)),
  );
  if (!end.succeeded) {
    throw fetchFailed(plan.wanted, 'apt-get could not fetch the packages', end.output);
  }
  const names = (await namesIn(files.archives)).filter((entry) => entry.endsWith('.deb'));
  if (names.length === 0) throw fetchFailed(plan.wanted, 'apt-get fetched nothing', end.output);
  return names.map((entry) => join(files.archives, entry));
}

/** Runs apt-get with the configuration of this fetch. */
type Apt = (
  parameters: readonly string[],
  onPercent?: (percent: number) => void,
) => Promise<CommandEnd>;

/** apt-get requires these folders, and writes nowhere else. */
async function prepareApt(plan: FetchPlan, files: AptFiles): Promise<void> {
  for (const name of ['state', 'lists/partial', 'archives/partial', 'log']) {
    await mkdir(join(files.folder, name), { recursive: true, mode: 0o700 });
  }
  await writeFile(files.configuration, aptConfiguration(files, plan.architecture));
  await writeFile(files.status, aptStatus(plan.architecture));
}

function runApt(
  plan: FetchPlan,
  files: AptFiles,
  parameters: readonly string[],
  onPercent: (percent: number) => void,
  signal: AbortSignal | undefined,
): Promise<CommandEnd> {
  const fixed = ['-c', files.configuration, '-q', '-o', `APT::Status-Fd=${STATUS_DESCRIPTOR}`];
  return runCommand(plan.aptGet, [...fixed, ...parameters], {
    timeoutMs: FETCH_TIMEOUT_MS,
    signal,
    onStatusLine: (line) => {
      const percent = parseProgress(line);
      if (percent !== undefined) onPercent(percent);
    },
  });
}

/**
 * Parses a line that apt-get writes to APT::Status-Fd: `dlstatus:<item>:<percent>:<text>`.
 *
 * @returns the percentage of the download; undefined for any other line
 */
export function parseProgress(line: string): number | undefined {
  const percent = /^dlstatus:\d+:(\d+(?:\.\d+)?):/.exec(line)?.[1];
  return percent === undefined ? undefined : Number(percent);
}

/**
 * Sums up the lines of `apt-get --print-uris`, one per package: `'<url>' <file> <bytes> <digest>`.
 */
export function parseUris(output: string): { count: number; bytes: number } {
  const sizes = [...output.matchAll(/^'\S+' \S+\.deb (\d+) /gm)].map((found) => Number(found[1]));
  return { count: sizes.length, bytes: sizes.reduce((sum, size) => sum + size, 0) };
}

/** Tries the mirrors in order, until one delivers lists that the archive has signed. */
async function readLists(
  plan: FetchPlan,
  files: AptFiles,
  apt: Apt,
  print: (line: string) => void,
): Promise<void> {
  let output = '';
  for (const mirror of plan.mirrors) {
    const source = aptSource(mirror, plan.keyring, plan.distribution);
    await writeFile(files.sources, source);
    print(`Reading the package lists of ${mirror}.`);
    const end = await apt(['update']);
    if (end.succeeded) return;
    output = end.output;
  }
  throw fetchFailed(plan.wanted, 'apt-get could not read the package lists', output);
}

/** Returns the first package name that the archive has, and the size of its download. */
async function choosePackage(
  wanted: Wanted,
  apt: Apt,
): Promise<{ name: string; bytes: number }> {
  let output = '';
  for (const name of wanted.packages) {
    const end = await apt(['--print-uris', 'install', name]);
    const { count, bytes } = parseUris(end.output);
    if (end.succeeded && count > 0) return { name, bytes };
    output ||= end.output;
  }
  throw fetchFailed(wanted, `the archive has no ${wanted.product} that can be installed`, output);
}

/** Calls back once for each step that the percentage reaches. */
function stepwise(onStep: (percent: number) => void): (percent: number) => void {
  let next = PROGRESS_STEP_PERCENT;
  return (percent) => {
    if (percent < next) return;
    const reached = Math.floor(percent / PROGRESS_STEP_PERCENT) * PROGRESS_STEP_PERCENT;
    next = reached + PROGRESS_STEP_PERCENT;
    onStep(reached);
  };
}

/** The loader of glibc: ld-linux-x86-64.so.2, ld-linux-aarch64.so.1, ld64.so.2, …. */
const LOADER_NAME = /^ld(-linux[\w-]*|64)\.so\.\d+$/;

/**
 * How to start a program of unpacked packages: with the loader and the libraries among them, so
 * that the copy runs on any system of the architecture.
 *
 * @param root the folder of the unpacked packages
 * @param path the program below it
 * @returns undefined when the program or its loader is missing
 */
export async function launchFrom(
  root: string,
  path: string,
): Promise<{ program: string; leading: string[] } | undefined> {
  const program = join(root, path);
  const folders = await libraryFolders(root);
  const loader = await findLoader(folders);
  if (loader === undefined || !(await isFile(program))) return undefined;
  return { program: loader, leading: ['--library-path', folders.join(':'), program] };
}

/** The folders of the architecture come first; others may contain libraries of another one. */
async function libraryFolders(root: string): Promise<string[]> {
  const bases = [join(root, 'usr/lib'), join(root, 'lib')];
  const triplets = await Promise.all(bases.map(tripletFolders));
  const own = join(root, 'usr/lib/mysql/private');
  const candidates = [...triplets.flat(), own, ...bases, join(root, 'usr/lib64')];
  const present = await Promise.all(candidates.map(namesIn));
  return candidates.filter((_, index) => (present[index] ?? []).length > 0);
}

async function tripletFolders(base: string): Promise<string[]> {
  const names = (await namesIn(base)).filter((name) => /-linux-gnu\w*$/.test(name));
  return names.map((name) => join(base, name));
}

async function findLoader(folders: readonly string[]): Promise<string | undefined> {
  for (const folder of folders) {
    for (const name of (await namesIn(folder)).filter((entry) => LOADER_NAME.test(entry))) {
      if (await isFile(join(folder, name))) return join(folder, name);
    }
  }
  return undefined;
}

/**
 * The error of a fetch that has failed.
 *
 * @param what continues the sentence "MySQL could not be fetched:"
 * @param output the output of the failed program, or ''
 */
export function fetchFailed(
  { product, ways }: Wanted,
  what: string,
  output: string,
): MysqlServerError {
  const lines = lastLines(output, ERROR_LINES).map((line) => `  ${line}`);
  return new MysqlServerError([
    `${product} could not be fetched: ${what}.`,
    ...lines,
    'No incomplete copy is left. Start again to try again.',
    ways,
  ]);
}
