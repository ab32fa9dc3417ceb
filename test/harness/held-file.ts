/** A file whose readers wait until the test writes its text: a FIFO (fifo(7)). */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';

export type HeldFile = Readonly<{
  /** Writes the text once a reader has opened the file. The next reader waits again. */
  give: (text: string) => Promise<void>;
}>;

/** Replaces a file. */
export function holdFile(path: string): HeldFile {
  rmSync(path, { force: true });
  execFileSync('mkfifo', [path]);
  return { give: (text) => writeFile(path, text) };
}
