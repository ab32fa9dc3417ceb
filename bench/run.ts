/** Runs a program to its end: compilers, git and npm, before anything is measured. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/** Runs a program in a folder; throws when it fails. */
export type Run = (folder: string, program: string, ...parameters: string[]) => Promise<void>;

/** Installing and compiling take seconds. */
const TIMEOUT_MS = 300_000;

/** Runs a program. */
export const run: Run = async (folder, program, ...parameters) => {
  await promisify(execFile)(program, parameters, { cwd: folder, timeout: TIMEOUT_MS });
};
