/** Runs one load against one port, with wrk if it is installed, else with load/generator.ts. */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What is sent, where and for how long. */
export type Load = Readonly<{
  port: number;
  connections: number;
  /** Whole seconds. */
  seconds: number;
  /** The file of the requests, each followed by NUL. */
  file: string;
}>;

/** The responses; latencies include those of refusals. */
export type LoadResult = Readonly<{
  requests: number;
  seconds: number;
  p50Us: number;
  p99Us: number;
  /** The requests ran out before the time was over; `seconds` is the time they took. */
  exhausted: boolean;
  answers2xx: number;
  answers4xx: number;
  answers5xx: number;
  /** Connections that were refused or broken, and responses that never came. */
  socketErrors: number;
}>;

/** The load generator. */
export type LoadProgram = 'wrk' | 'own';

/** A generator that runs this much longer than its load hangs. */
const OVERRUN_MAX_MS = 30_000;

/** A later response counts as an error. */
const ANSWER_TIMEOUT_SECONDS = 10;

/** wrk if it is on the PATH, else our own generator. */
export function findLoadProgram(searchPath: string): LoadProgram {
  const isInstalled = searchPath.split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, 'wrk'), constants.X_OK);
      return folder !== '';
    } catch {
      return false;
    }
  });
  return isInstalled ? 'wrk' : 'own';
}

/**
 * Runs a load and waits for its end.
 *
 * @throws when the generator fails, prints no result or is aborted
 */
export async function runLoad(
  program: LoadProgram,
  load: Load,
  signal: AbortSignal,
): Promise<LoadResult> {
  const [command, parameters] = program === 'wrk' ? wrkCommand(load) : ownCommand(load);
  const output = await run(command, parameters, load.seconds * 1000 + OVERRUN_MAX_MS, signal);
  const line = /^LOAD (.*)$/m.exec(output)?.[1];
  if (line === undefined) throw new Error(`the load generator printed no result:\n${output}`);
  return JSON.parse(line) as LoadResult;
}

function wrkCommand({ port, connections, seconds, file }: Load): [string, string[]] {
  return ['wrk', [
    '-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', `${ANSWER_TIMEOUT_SECONDS}s`,
    '-s', pathOf('load/wrk.lua'), `http://127.0.0.1:${port}/`, '--', file,
  ]];
}

function ownCommand({ port, connections, seconds, file }: Load): [string, string[]] {
  const numbers = [port, connections, seconds].map(String);
  return [process.execPath, [pathOf('dist/load/generator.js'), ...numbers, file]];
}

function pathOf(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}

function run(
  command: string,
  parameters: string[],
  timeoutMs: number,
  signal: AbortSignal,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, parameters, {
      stdio: ['ignore', 'pipe', 'pipe'], timeout: timeoutMs, killSignal: 'SIGKILL', signal,
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (part: string) => { output += part; });
    }
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve(output);
      else reject(new Error(`${command} exited with ${code}:\n${output}`));
    });
  });
}
