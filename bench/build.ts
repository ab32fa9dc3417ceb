/** Builds what is measured, and runs programs for the commands of this folder. */
import { execFile } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, symlinkSync } from 'node:fs';
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** The folder of the benchmark. */
export const BENCH = fileURLToPath(new URL('.', import.meta.url));

/** The root of the repository. */
export const ROOT = join(BENCH, '..');

/** Raw output of every run; git ignores it. */
export const RESULTS = join(BENCH, 'results');

/** Installing and compiling take seconds; a registry that does not answer takes longer. */
const RUN_TIMEOUT_MS = 300_000;

/** Exceeds the time in which otpd drains. */
const STOP_TIMEOUT_MS = 15_000;

const TSC = join(ROOT, 'node_modules/typescript/bin/tsc');

/** Another commit of otpd, compiled in a temporary folder. */
export type Checkout = Readonly<{ folder: string; remove: () => Promise<void> }>;

/** Prints a line of progress. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Aborts on SIGINT and SIGTERM, so that a command can clean up before it exits. */
export function stopSignal(): AbortSignal {
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => stop.abort(new Error('stopped')));
  }
  return stop.signal;
}

/**
 * Runs a program to its end and returns its standard output.
 *
 * @throws when it fails or takes longer than five minutes
 */
export async function run(
  folder: string,
  program: string,
  ...parameters: readonly string[]
): Promise<string> {
  const options = { cwd: folder, timeout: RUN_TIMEOUT_MS };
  return (await promisify(execFile)(program, parameters, options)).stdout;
}

/** Stops a child by SIGTERM, by SIGKILL after 15 s, and waits until its output has ended. */
export async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, 'close');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await closed;
  clearTimeout(timer);
}

/** Compiles otpd, the baselines and the load generator; installs what the baselines import. */
export async function build(): Promise<void> {
  if (!existsSync(join(BENCH, 'node_modules'))) await run(BENCH, 'npm', 'ci');
  await run(ROOT, process.execPath, TSC, '-p', 'tsconfig.build.json');
  await run(BENCH, process.execPath, TSC, '-p', 'tsconfig.targets.json');
}

/**
 * Unpacks a commit into a temporary folder and compiles it with the packages of this checkout.
 * The benchmark only expects `tsconfig.build.json` and `dist/main.js` of it.
 *
 * @param commit any name that git resolves, such as `HEAD~1`
 */
export async function buildCommit(commit: string): Promise<Checkout> {
  await run(ROOT, 'git', 'rev-parse', '--verify', `${commit}^{commit}`).catch((cause) => {
    throw new Error(`--against ${commit}: git finds no such commit in this repository`, { cause });
  });
  const parent = await realpath(await mkdtemp(join(tmpdir(), 'otpd-base-')));
  const [archive, folder] = [join(parent, 'otpd.tar'), join(parent, 'otpd')];
  const remove = (): Promise<void> => rm(parent, { recursive: true, force: true });
  try {
    await run(ROOT, 'git', 'archive', `--output=${archive}`, commit);
    await mkdir(folder);
    await run(folder, 'tar', '-xf', archive);
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    await run(folder, process.execPath, TSC, '-p', 'tsconfig.build.json');
    return { folder, remove };
  } catch (error) {
    await remove();
    throw error;
  }
}
