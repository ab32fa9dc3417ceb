/**
 * Folders in which something is being made. The name of such a folder says which process makes
 * it, so that one whose process is gone is known to be half-made and is removed.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { namesIn } from './present-files.ts';
import { startMark } from './running-process.ts';

/**
 * Makes a folder for work in progress.
 *
 * @param parent the folder it is made in, which is made as well
 * @param name what is being made
 * @returns its path; the caller removes it
 */
export async function makePartialFolder(parent: string, name: string): Promise<string> {
  await mkdir(parent, { recursive: true, mode: 0o700 });
  const mark = await startMark(process.pid);
  const path = join(parent, `${name}.partial.${process.pid}.${mark}.${randomUUID()}`);
  await mkdir(path, { mode: 0o700 });
  return path;
}

/** Removes the partial folders of processes that are gone; those of living ones stay. */
export async function removeStalePartials(parent: string, name: string): Promise<void> {
  for (const entry of await namesIn(parent)) {
    if (!entry.startsWith(`${name}.partial.`)) continue;
    const [processId = '', mark = ''] = entry.slice(`${name}.partial.`.length).split('.');
    const isAlive = mark !== '' && (await startMark(Number(processId))) === mark;
    if (!isAlive) await rm(join(parent, entry), { recursive: true, force: true });
  }
}
