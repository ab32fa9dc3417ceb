/** Finds a mysqld that the machine already has: MYSQLD, the PATH, then the usual folders. */
import { constants } from 'node:fs';
import { access, readdir, realpath, stat } from 'node:fs/promises';
import { basename, delimiter, dirname, isAbsolute, join, resolve } from 'node:path';
import { errorCode, LocalServerError, WAYS_TO_GET_MYSQL } from './local-server-error.ts';
import { examineMysqld } from './mysqld-program.ts';
import type { Mysqld } from './mysqld-program.ts';

/**
 * Where packages and installers put mysqld. A last but one part that ends in `*` stands for
 * every folder whose name begins so (Homebrew keeps `mysql`, `mysql@8.4`, …).
 */
export const USUAL_FOLDERS: readonly string[] = Object.freeze([
  '/usr/sbin',
  '/usr/bin',
  '/usr/libexec',
  '/usr/local/sbin',
  '/usr/local/bin',
  '/usr/local/libexec',
  '/usr/local/mysql/bin',
  '/opt/mysql/bin',
  '/opt/homebrew/opt/mysql*/bin',
  '/usr/local/opt/mysql*/bin',
  '/home/linuxbrew/.linuxbrew/opt/mysql*/bin',
]);

/** The names in one folder that a pattern may match; more is not a folder of programs. */
const PATTERN_MATCHES_MAX = 32;

type Search = Readonly<{
  /** MYSQLD: this program and no other. */
  mysqld: string | undefined;
  /** PATH; entries that are not absolute are passed over. */
  searchPath: string;
  usualFolders: readonly string[];
  say: (line: string) => void;
  signal?: AbortSignal | undefined;
}>;

/**
 * Finds the first usable mysqld. Unusable ones on the way (MariaDB, too old) are named in a line.
 *
 * @returns undefined when the machine has none
 * @throws LocalServerError when MYSQLD names a program that cannot be used
 */
export async function locateMysqld(search: Search): Promise<Mysqld | undefined> {
  if (search.mysqld !== undefined) return namedMysqld(search.mysqld, search.signal);
  const seen = new Set<string>();
  for (const folder of await foldersOf(search)) {
    const program = await executableIn(folder, 'mysqld');
    if (program === undefined) continue;
    const target = await realpath(program);
    if (seen.has(target)) continue;
    seen.add(target);
    const examined = await examineMysqld(plainLaunch(program), search.signal);
    if (examined.usable) return examined.mysqld;
    search.say(`Passing over ${program}: it ${examined.reason}.`);
  }
  return undefined;
}

/**
 * Finds a program on the PATH.
 *
 * @returns its full path, or undefined
 */
export async function findProgram(
  name: string,
  searchPath: string,
): Promise<string | undefined> {
  for (const folder of splitPath(searchPath)) {
    const program = await executableIn(folder, name);
    if (program !== undefined) return program;
  }
  return undefined;
}

async function namedMysqld(path: string, signal: AbortSignal | undefined): Promise<Mysqld> {
  const examined = await examineMysqld(plainLaunch(resolve(path)), signal);
  if (examined.usable) return examined.mysqld;
  throw new LocalServerError([
    `MYSQLD names ${path}, but it ${examined.reason}.`,
    'Set MYSQLD to a mysqld of MySQL 8.0.19 or later, or unset it to let otpd look for one.',
    WAYS_TO_GET_MYSQL,
  ]);
}

function plainLaunch(program: string) {
  return { program, leading: [], layout: [] };
}

async function foldersOf(search: Search): Promise<string[]> {
  const usual = await Promise.all(search.usualFolders.map(expandPattern));
  return [...splitPath(search.searchPath), ...usual.flat()];
}

// An entry that is empty or relative means the current folder: never run a program from there.
function splitPath(searchPath: string): string[] {
  return searchPath.split(delimiter).filter((folder) => isAbsolute(folder));
}

async function expandPattern(folder: string): Promise<string[]> {
  const parent = dirname(folder);
  if (!parent.endsWith('*')) return [folder];
  const prefix = basename(parent).slice(0, -1);
  return (await namesIn(dirname(parent)))
    .filter((name) => name.startsWith(prefix))
    .slice(0, PATTERN_MATCHES_MAX)
    .map((name) => join(dirname(parent), name, basename(folder)));
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
    return [];
  }
}

async function executableIn(folder: string, name: string): Promise<string | undefined> {
  const path = join(folder, name);
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile() ? path : undefined;
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
    return undefined;
  }
}
