/** Finds an installed mysqld: MYSQLD, then PATH, then the usual folders. */
import { constants } from 'node:fs';
import { access, readdir, realpath, stat } from 'node:fs/promises';
import { delimiter, dirname, basename, isAbsolute, join, resolve } from 'node:path';
import { MysqlServerError, WAYS_TO_GET_MYSQL, errorCode } from './error.ts';
import { examineMysqld } from './mysqld.ts';
import type { Mysqld } from './mysqld.ts';

/**
 * Where packages and installers put mysqld. A parent folder that ends in `*` matches every folder
 * with that prefix: Homebrew keeps `mysql`, `mysql@8.4`, ….
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

/** A pattern that matches more folders than this does not name folders of programs. */
const PATTERN_MATCHES_MAX = 32;

type Search = Readonly<{
  /** MYSQLD: only this program is considered. */
  mysqld: string | undefined;
  /** PATH; relative entries are ignored. */
  searchPath: string;
  usualFolders: readonly string[];
  print: (line: string) => void;
  signal?: AbortSignal | undefined;
}>;

/**
 * Finds the first usable mysqld. A line is printed for each unusable one (MariaDB, too old).
 *
 * @returns undefined when there is none
 * @throws MysqlServerError when MYSQLD names an unusable program
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
    search.print(`Skipping ${program}, which ${examined.reason}.`);
  }
  return undefined;
}

/** The full path of a program on PATH. */
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
  throw new MysqlServerError([
    `MYSQLD names ${path}, which ${examined.reason}.`,
    'Set MYSQLD to a mysqld of MySQL 8.0.19 or later, or unset MYSQLD.',
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

// An empty or relative entry refers to the current folder: no program is run from there.
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
