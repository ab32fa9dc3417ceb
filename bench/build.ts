/** Compiles otpd and what is measured beside it, and installs what only the benchmark needs. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './run.ts';

/** The folder of the benchmark. */
export const BENCH = fileURLToPath(new URL('.', import.meta.url));

/** The folder of otpd. */
export const ROOT = join(BENCH, '..');

/** Where results are kept. */
export const RESULTS = join(BENCH, 'results');

/** All services run compiled, by plain node. */
export async function build(): Promise<void> {
  if (!existsSync(join(BENCH, 'node_modules'))) await run(BENCH, 'npm', 'ci');
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  await run(ROOT, process.execPath, tsc, '-p', 'tsconfig.build.json');
  await run(BENCH, process.execPath, tsc, '-p', 'tsconfig.targets.json');
}
