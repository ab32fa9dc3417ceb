/** Reads files that may be absent, and creates folders for work that may be interrupted. */
import { randomUUID } from 'node:crypto';
import { readFile, readdir, stat, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from '../error.ts';
import { startMark } from '../processes.ts';

/** ENOTDIR: a part of the path is a file. */
const ABSENT = ['ENOENT', 'ENOTDIR'];

/** The content of a file; '' when there is none. */
export async function readIfThere(path: string): Promise<string> {
  return (await orAbsent(readFile(path, 'utf8'))) ?? '';
}

/** The names in a folder, sorted; [] when there is none. */
export async function namesIn(folder: string): Promise<string[]> {
  return ((await orAbsent(readdir(folder))) ?? []).sort();
}

/** Follows links. */
export async function isFile(path: string): Promise<boolean> {
  return (await orAbsent(stat(path)))?.isFile() ?? false;
}

/** Follows links. */
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

/**
 * Creates a folder for work in progress, and its parent. Its name identifies this process, so that
 * the folder of a killed process can be recognised and removed.
 *
 * @returns the path; the caller removes the folder
 */
export async function makePartialFolder(parent: string, name: string): Promise<string> {
  await mkdir(parent, { recursive: true, mode: 0o700 });
  const mark = await startMark(process.pid);
  const path = join(parent, `${name}.partial.${process.pid}.${mark}.${randomUUID()}`);
  await mkdir(path, { mode: 0o700 });
  return path;
}

/** Removes the partial folders of processes that have ended. */
export async function removeStalePartials(parent: string, name: string): Promise<void> {
  for (const entry of await namesIn(parent)) {
    if (!entry.startsWith(`${name}.partial.`)) continue;
    const [processId = '', mark = ''] = entry.slice(`${name}.partial.`.length).split('.');
    const isAlive = mark !== '' && (await startMark(Number(processId))) === mark;
    if (!isAlive) await rm(join(parent, entry), { recursive: true, force: true });
  }
}
