/**
 * Chromium for tests: an installed one, or Debian's, which is fetched without root and unpacked
 * into the cache folder together with the libraries that this machine lacks.
 */
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import type { Browser } from 'playwright-core';
import { runCommand, toolEnvironment } from '../../tools/mysql/command.ts';
import { copyNameOf } from '../../tools/mysql/fetch/download.ts';
import {
  isFile, makePartialFolder, namesIn, removeStalePartials,
} from '../../tools/mysql/fetch/files.ts';
import { findProgram } from '../../tools/mysql/locate.ts';
import { readMysqlSettings } from '../../tools/mysql/settings.ts';
import { SHELL } from './program.ts';

/** Chromium without a window: 100 MB to fetch, 300 MB on disk. */
const PACKAGE = 'chromium-headless-shell';
const INSTALLED = ['chromium', PACKAGE, 'google-chrome'];
const COPY = copyNameOf('chromium');

/** As long as a slow line needs; a lane has its own bound. */
const FETCH_TIMEOUT_MS = 300_000;
const VERSION_TIMEOUT_MS = 60_000;

/** The tests run as root too, and nothing may be fetched or reported in the background. */
const ARGUMENTS = ['--no-sandbox', '--disable-background-networking', '--disable-gpu',
  '--disable-component-update', '--disable-sync', '--no-first-run'];

type Launch = Readonly<{ executablePath: string; env: Record<string, string> }>;

/** Starts Chromium; the caller closes it. */
export async function startChromium(): Promise<Browser> {
  const { executablePath, env } = await obtain();
  return chromium.launch({ executablePath, env, args: ARGUMENTS });
}

async function obtain(): Promise<Launch> {
  const { searchPath, cacheFolder } = readMysqlSettings(SHELL);
  for (const name of INSTALLED) {
    const executablePath = await findProgram(name, searchPath);
    if (executablePath !== undefined) return { executablePath, env: environmentOf([]) };
  }
  const root = join(cacheFolder, COPY);
  return await launchFrom(root) ?? await fetchCopy(cacheFolder, root, searchPath);
}

/** The copy, if it runs: an upgrade of the system may have removed one of its libraries. */
async function launchFrom(root: string): Promise<Launch | undefined> {
  const executablePath = join(root, 'usr/lib/chromium', PACKAGE);
  if (!(await isFile(executablePath))) return undefined;
  const base = join(root, 'usr/lib');
  const triplets = (await namesIn(base)).filter((name) => name.includes('-linux-gnu'))
    .map((name) => join(base, name));
  const env = environmentOf([...triplets, ...triplets.map((path) => join(path, 'pulseaudio'))]);
  const end = await runCommand(executablePath, ['--version', '--no-sandbox'],
    { timeoutMs: VERSION_TIMEOUT_MS, environment: env });
  return end.succeeded ? { executablePath, env } : undefined;
}

function environmentOf(libraries: readonly string[]): Record<string, string> {
  const environment = toolEnvironment() as Record<string, string>;
  return libraries.length === 0 ? environment
    : { ...environment, LD_LIBRARY_PATH: libraries.join(':') };
}

/**
 * The packages are those of this release, unlike the copies of MySQL and nginx: Chromium starts
 * itself again for each page, which it cannot do under a loader that is not the system's.
 */
async function fetchCopy(folder: string, root: string, searchPath: string): Promise<Launch> {
  await removeStalePartials(folder, COPY);
  const partial = await makePartialFolder(folder, COPY);
  try {
    const archives = await download(partial, searchPath);
    const unpacked = join(partial, 'root');
    await mkdir(unpacked);
    for (const archive of archives) await run('dpkg-deb', ['-x', archive, unpacked], searchPath);
    if (await launchFrom(unpacked) === undefined) throw failed('the unpacked copy does not run');
    // A copy that did not run makes room. Of two fetches at the same time, either copy is good.
    if (await launchFrom(root) === undefined) {
      await rename(root, join(partial, 'broken')).catch(() => {});
      await rename(unpacked, root).catch(() => {});
    }
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  const launch = await launchFrom(root);
  if (launch === undefined) throw failed('another process has removed the copy');
  return launch;
}

/** Downloads the package and what it lacks here; apt reads the sources of the system. */
async function download(partial: string, searchPath: string): Promise<string[]> {
  const [lists, archives] = [join(partial, 'lists'), join(partial, 'archives')];
  for (const path of [lists, archives]) await mkdir(join(path, 'partial'), { recursive: true });
  const options = Object.entries({
    'Dir::State::Lists': lists, 'Dir::Cache': partial, 'Dir::Cache::Archives': archives,
    'APT::Sandbox::User': 'root', 'APT::Install-Recommends': 'false',
    'Acquire::Languages': 'none', 'Acquire::Retries': '2', 'Debug::NoLocking': 'true',
  }).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  await run('apt-get', ['-q', ...options, 'update'], searchPath);
  await run('apt-get', ['-qy', ...options, '--download-only', 'install', PACKAGE], searchPath);
  return (await namesIn(archives)).filter((name) => name.endsWith('.deb'))
    .map((name) => join(archives, name));
}

async function run(name: string, parameters: string[], searchPath: string): Promise<void> {
  const program = await findProgram(name, searchPath);
  if (program === undefined) throw failed(`${name} is not on the PATH`);
  const end = await runCommand(program, parameters, { timeoutMs: FETCH_TIMEOUT_MS });
  if (!end.succeeded) throw failed(`${name} ended with an error: ${end.output}`);
}

function failed(why: string): Error {
  return new Error(`No Chromium was found, and none could be fetched: ${why}.\n`
    + 'Install Chromium, so that chromium is on the PATH, and start again.');
}
