/** Another version of otpd, built beside this one, to be measured in the same run. */
import { existsSync, symlinkSync } from 'node:fs';
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Run } from './run.ts';

/** A built version. */
export type Before = Readonly<{ folder: string; remove: () => Promise<void> }>;

/**
 * Checks out a version into a temporary folder, and compiles it.
 *
 * @param root the folder of this repository, whose packages it uses
 * @param ref of a commit, such as `HEAD~1`
 */
export async function buildBefore(root: string, ref: string, run: Run): Promise<Before> {
  const parent = await realpath(await mkdtemp(join(tmpdir(), 'otpd-before-')));
  const folder = join(parent, 'otpd');
  const remove = async (): Promise<void> => {
    if (existsSync(folder)) await run(root, 'git', 'worktree', 'remove', '--force', folder);
    await rm(parent, { recursive: true, force: true });
  };
  try {
    await run(root, 'git', 'worktree', 'add', '--detach', folder, ref);
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    await run(folder, process.execPath, tsc, '-p', 'tsconfig.build.json');
    return { folder, remove };
  } catch (error) {
    await remove();
    throw error;
  }
}
