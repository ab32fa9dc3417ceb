/** Runs one load against one port, by wrk when it is there, else by our own generator. */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What is sent, and for how long. */
export type Load = Readonly<{
  port: number;
  connections: number;
  /** Whole seconds. */
  seconds: number;
  /** A file of requests, each ended by NUL. */
  file: string;
}>;

/** What came back. Latencies are those of all answers. */
export type LoadResult = Readonly<{
  requests: number;
  seconds: number;
  p50Us: number;
  p99Us: number;
  /** The prepared requests ended before the time did; `seconds` is the time they took. */
  exhausted: boolean;
  answers2xx: number;
  answers4xx: number;
  answers5xx: number;
  /** Connections refused or broken, and answers that never came. */
  socketErrors: number;
}>;

/** Which program makes the load. */
export type LoadProgram = 'wrk' | 'own';

/** A load that is not over so long after its end is stuck. */
const OVERRUN_MAX_MS = 30_000;

/** An answer later than this counts as an error. */
const ANSWER_TIMEOUT_SECONDS = 10;

/** The program to use: wrk when it is on the PATH. */
export function findLoadProgram(searchPath: string): LoadProgram {
  const isThere = searchPath.split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, 'wrk'), constants.X_OK);
      return folder !== '';
    } catch {
      return false;
    }
  });
  return isThere ? 'wrk' : 'own';
}

/**
 * Runs a load and waits for its end.
 *
 * @throws when the generator fails, does not report, or is aborted
 */
export async function runLoad(
  program: LoadProgram,
  load: Load,
  signal: AbortSignal,
): Promise<LoadResult> {
  const [command, parameters] = program === 'wrk' ? wrkCommand(load) : ownCommand(load);
  const output = await run(command, parameters, load.seconds * 1000 + OVERRUN_MAX_MS, signal);
  const line = /^LOAD (.*)$/m.exec(output)?.[1];
  if (line === undefined) throw new Error(`the load generator did not report:\n${output}`);
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
      else reject(new Error(`${command} ended with ${code}:\n${output}`));
    });
  });
}
