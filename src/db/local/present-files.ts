/** Reading what may be absent: no file and no folder are answers here, not errors. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { errorCode } from './local-server-error.ts';

/** ENOTDIR: a file stands where a folder of the path should be. */
const ABSENT = ['ENOENT', 'ENOTDIR'];

/** The text of a file, or the empty text when there is none. */
export async function readIfThere(path: string): Promise<string> {
  return (await orAbsent(readFile(path, 'utf8'))) ?? '';
}

/** The names in a folder, sorted; none when there is no folder. */
export async function namesIn(folder: string): Promise<string[]> {
  return ((await orAbsent(readdir(folder))) ?? []).sort();
}

/** Whether there is a file, following links. */
export async function isFile(path: string): Promise<boolean> {
  return (await orAbsent(stat(path)))?.isFile() ?? false;
}

/** Whether there is a folder, following links. */
export async function isFolder(path: string): Promise<boolean> {
  return (await orAbsent(stat(path)))?.isDirectory() ?? false;
}

async function orAbsent<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (ABSENT.includes(errorCode(error) ?? '')) return undefined;
    throw error;
  }
}
