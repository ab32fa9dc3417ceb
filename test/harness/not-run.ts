/** Tests that need what not every machine has: where it is missing, they do not count as passed. */
import { spawnSync } from 'node:child_process';

/** The beginning of a line that the runner repeats before the counts. */
export const NOT_RUN = 'not run: ';

/**
 * Whether a test can be run. Where it cannot, the test must not be registered, and the runner
 * prints which test that is and what it lacks.
 */
export function canRun(title: string, isMet: boolean, lack: string): boolean {
  if (!isMet) process.stdout.write(`${NOT_RUN}${title}: ${lack}\n`);
  return isMet;
}

/** Whether the machine has a program that ends with 0 for these parameters. */
export function works(program: string, ...parameters: readonly string[]): boolean {
  return spawnSync(program, parameters).status === 0;
}
