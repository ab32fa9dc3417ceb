/**
 * Programs that only tests need: an installed one, or that of this Debian release, which is fetched
 * without root and unpacked into the cache folder together with the libraries that the machine
 * lacks. Unlike the copies of MySQL and nginx, such a copy runs under the loader of the system, so
 * a program can start itself again, as Chromium does for each page.
 */
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand, toolEnvironment } from '../../tools/mysql/command.ts';
import { copyNameOf } from '../../tools/mysql/fetch/download.ts';
import {
  makePartialFolder, namesIn, removeStalePartials,
} from '../../tools/mysql/fetch/files.ts';
import { findProgram } from '../../tools/mysql/locate.ts';
import { readMysqlSettings } from '../../tools/mysql/settings.ts';
import { SHELL } from './program.ts';

export type WantedProgram = Readonly<{
  /** The name in messages, and of the copy. */
  product: string;
  /** Names on the PATH, in order of preference. */
  installed: readonly string[];
  /** The package of Debian, and the program in it. */
  package: string;
  folder: string;
  file: RegExp;
  /** Folders of libraries besides those of the architecture, below each of them. */
  libraries?: readonly string[];
  /** Parameters with which it prints its version. */
  version: readonly string[];
}>;

export type Launch = Readonly<{ program: string; env: Record<string, string> }>;

/** As long as a slow line needs for 100 MB; a lane has its own bound. */
const FETCH_TIMEOUT_MS = 300_000;
const VERSION_TIMEOUT_MS = 60_000;

const { searchPath, cacheFolder } = readMysqlSettings(SHELL);

/** Finds or fetches a program; throws with what to install. */
export async function obtainProgram(wanted: WantedProgram): Promise<Launch> {
  for (const name of wanted.installed) {
    const program = await findProgram(name, searchPath);
    if (program !== undefined) return { program, env: environmentOf([]) };
  }
  const root = join(cacheFolder, copyNameOf(wanted.product));
  return await launchFrom(wanted, root) ?? await fetchCopy(wanted, root);
}

/** The copy, if it runs: an upgrade of the system may have removed one of its libraries. */
async function launchFrom(wanted: WantedProgram, root: string): Promise<Launch | undefined> {
  const folder = join(root, wanted.folder);
  const name = (await namesIn(folder)).find((entry) => wanted.file.test(entry));
  if (name === undefined) return undefined;
  const program = join(folder, name);
  const base = join(root, 'usr/lib');
  const triplets = (await namesIn(base)).filter((entry) => entry.includes('-linux-gnu'))
    .map((entry) => join(base, entry));
  const more = (wanted.libraries ?? []).flatMap((entry) =>
    triplets.map((path) => join(path, entry)));
  const env = environmentOf([...triplets, ...more]);
  const options = { timeoutMs: VERSION_TIMEOUT_MS, environment: env };
  const end = await runCommand(program, wanted.version, options);
  return end.succeeded ? { program, env } : undefined;
}

function environmentOf(libraries: readonly string[]): Record<string, string> {
  const environment = toolEnvironment() as Record<string, string>;
  return libraries.length === 0 ? environment
    : { ...environment, LD_LIBRARY_PATH: libraries.join(':') };
}

/** Only a copy that runs gets the final name. Of two fetches at the same time, either is good. */
async function fetchCopy(wanted: WantedProgram, root: string): Promise<Launch> {
  const copyName = copyNameOf(wanted.product);
  await removeStalePartials(cacheFolder, copyName);
  const partial = await makePartialFolder(cacheFolder, copyName);
  try {
    const unpacked = join(partial, 'root');
    await mkdir(unpacked);
    for (const archive of await download(wanted, partial)) {
      await run(wanted, 'dpkg-deb', ['-x', archive, unpacked]);
    }
    if (await launchFrom(wanted, unpacked) === undefined) {
      throw failed(wanted, 'the unpacked copy does not run');
    }
    if (await launchFrom(wanted, root) === undefined) {
      await rename(root, join(partial, 'broken')).catch(() => {});
      await rename(unpacked, root).catch(() => {});
    }
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  const launch = await launchFrom(wanted, root);
  if (launch === undefined) throw failed(wanted, 'another process has removed the copy');
  return launch;
}

/** Downloads the package and what the machine lacks; apt reads the sources of the system. */
async function download(wanted: WantedProgram, partial: string): Promise<string[]> {
  const [lists, archives] = [join(partial, 'lists'), join(partial, 'archives')];
  for (const path of [lists, archives]) await mkdir(join(path, 'partial'), { recursive: true });
  const options = Object.entries({
    'Dir::State::Lists': lists, 'Dir::Cache': partial, 'Dir::Cache::Archives': archives,
    'APT::Sandbox::User': 'root', 'APT::Install-Recommends': 'false',
    'Acquire::Languages': 'none', 'Acquire::Retries': '2', 'Debug::NoLocking': 'true',
  }).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  await run(wanted, 'apt-get', ['-q', ...options, 'update']);
  await run(wanted, 'apt-get', ['-qy', ...options, '--download-only', 'install', wanted.package]);
  return (await namesIn(archives)).filter((name) => name.endsWith('.deb'))
    .map((name) => join(archives, name));
}

async function run(wanted: WantedProgram, name: string, parameters: string[]): Promise<void> {
  const program = await findProgram(name, searchPath);
  if (program === undefined) throw failed(wanted, `${name} is not on the PATH`);
  const end = await runCommand(program, parameters, { timeoutMs: FETCH_TIMEOUT_MS });
  if (!end.succeeded) throw failed(wanted, `${name} ended with an error: ${end.output}`);
}

function failed({ product, installed }: WantedProgram, why: string): Error {
  return new Error(`No ${product} was found, and none could be fetched: ${why}.\n`
    + `Install it, so that ${installed.join(' or ')} is on the PATH, and start again.`);
}
