/** Runs a program until it exits, and keeps its output. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { ROOT } from '../harness/program.ts';

/** Ten times the duration of the longest test file on an idle machine. */
const PROGRAM_MAX_MS = 400_000;

export type Variables = Readonly<Record<string, string | undefined>>;

/** The time that a program may take; more by the duration that a long run is asked for. */
export function boundMs({ OTPD_TEST_SECONDS: seconds = '' }: Variables): number {
  return PROGRAM_MAX_MS + 1000 * Math.max(0, Number(seconds) || 0);
}

export type ProgramResult = Readonly<{ code: number; output: string }>;

const running = new Set<ChildProcess>();

/** Runs node in the folder of the project; the variables add to the environment. */
export function runNode(
  parameters: readonly string[],
  variables: Variables = {},
): Promise<ProgramResult> {
  const timeout = boundMs(process.env);
  return new Promise((resolve) => {
    const child = spawn(process.execPath, parameters, {
      cwd: ROOT,
      env: { ...process.env, ...variables },
      timeout,
      killSignal: 'SIGKILL',
    });
    running.add(child);
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => { output += chunk.toString(); });
    }
    child.on('error', (error) => resolve({ code: 1, output: String(error) }));
    child.on('close', (code, signal) => {
      running.delete(child);
      const outcome = signal === null ? '' : `\nended by ${signal} (bound: ${timeout} ms)\n`;
      resolve({ code: code ?? 1, output: output + outcome });
    });
  });
}

export function killPrograms(): void {
  for (const child of running) child.kill('SIGKILL');
}
