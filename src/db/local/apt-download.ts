/** Lets apt-get fetch MySQL's packages and what they need, verified by the archive's key. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  aptConfiguration, aptFiles, aptSource, aptStatus, PACKAGE_NAMES,
} from './apt-configuration.ts';
import type { AptFiles } from './apt-configuration.ts';
import { runCommand, STATUS_DESCRIPTOR } from './command.ts';
import type { CommandEnd } from './command.ts';
import type { FetchOptions } from './fetch-mysql.ts';
import { fetchFailed } from './fetch-plan.ts';
import type { FetchPlan } from './fetch-plan.ts';
import { namesIn } from './present-files.ts';

/** 60 MB over a slow line; apt itself gives up earlier on a line that is silent. */
const FETCH_TIMEOUT_MS = 1_800_000;

/** A line of progress for each so many percent. */
const PROGRESS_STEP_PERCENT = 20;

const BYTES_PER_MB = 1_000_000;

/**
 * Downloads the packages.
 *
 * @param folder a folder to be made, for everything that apt writes
 * @returns the paths of the packages
 * @throws LocalServerError with apt's last lines, or the abort reason
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
  await readLists(plan, files, apt, options.say);
  const { name, bytes } = await choosePackage(apt);
  const size = `${Math.ceil(bytes / BYTES_PER_MB)} MB`;
  options.say(`Fetching ${name} and the libraries it needs (${size}).`);
  const end = await apt(
    ['--download-only', 'install', name],
    stepwise((percent) => options.say(`  ${percent} % of ${size}`)),
  );
  if (!end.succeeded) throw fetchFailed('apt-get could not fetch the packages', end.output);
  const names = (await namesIn(files.archives)).filter((entry) => entry.endsWith('.deb'));
  if (names.length === 0) throw fetchFailed('apt-get fetched nothing', end.output);
  return names.map((entry) => join(files.archives, entry));
}

/** One run of apt-get with our configuration. */
type Apt = (
  parameters: readonly string[],
  onPercent?: (percent: number) => void,
) => Promise<CommandEnd>;

/** apt wants these folders to exist; it writes nowhere else. */
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
 * Reads a line that apt writes to APT::Status-Fd: `dlstatus:<item>:<percent>:<text>`.
 *
 * @returns the percentage of the download, or undefined for any other line
 */
export function parseProgress(line: string): number | undefined {
  const percent = /^dlstatus:\d+:(\d+(?:\.\d+)?):/.exec(line)?.[1];
  return percent === undefined ? undefined : Number(percent);
}

/**
 * The packages that apt would fetch, from the lines of `--print-uris`:
 * `'<address>' <file> <bytes> <digest>`.
 */
export function parseUris(output: string): { count: number; bytes: number } {
  const sizes = [...output.matchAll(/^'\S+' \S+\.deb (\d+) /gm)].map((found) => Number(found[1]));
  return { count: sizes.length, bytes: sizes.reduce((sum, size) => sum + size, 0) };
}

/** The first mirror whose lists arrive and are signed by the archive's key. */
async function readLists(
  plan: FetchPlan,
  files: AptFiles,
  apt: Apt,
  say: (line: string) => void,
): Promise<void> {
  let output = '';
  for (const mirror of plan.mirrors) {
    const source = aptSource(mirror, plan.keyring, plan.distribution);
    await writeFile(files.sources, source);
    say(`Reading the package lists of ${mirror}.`);
    const end = await apt(['update']);
    if (end.succeeded) return;
    output = end.output;
  }
  throw fetchFailed('apt-get could not read the package lists', output);
}

/** The first of the names that the archive has, and how much there is to fetch for it. */
async function choosePackage(apt: Apt): Promise<{ name: string; bytes: number }> {
  let output = '';
  for (const name of PACKAGE_NAMES) {
    const end = await apt(['--print-uris', 'install', name]);
    const { count, bytes } = parseUris(end.output);
    if (end.succeeded && count > 0) return { name, bytes };
    output ||= end.output;
  }
  throw fetchFailed('the archive has no MySQL that can be installed', output);
}

/** Passes on every step of the percentage once, upwards. */
function stepwise(tell: (percent: number) => void): (percent: number) => void {
  let next = PROGRESS_STEP_PERCENT;
  return (percent) => {
    if (percent < next) return;
    const reached = Math.floor(percent / PROGRESS_STEP_PERCENT) * PROGRESS_STEP_PERCENT;
    next = reached + PROGRESS_STEP_PERCENT;
    tell(reached);
  };
}
