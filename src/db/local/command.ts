/**
 * Runs one program to its end, in a process group of its own, with a bound on its time and on
 * what is kept of its output. Everything it started ends with it when the work is aborted.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { errorCode } from './local-server-error.ts';

/** Enough for the reason of any failure; a chatty program must not fill the memory. */
const OUTPUT_MAX_CHARACTERS = 16_384;

/** Time between asking a group of processes to end and ending it. */
const KILL_DELAY_MS = 3_000;

/** The descriptor on which apt reports its progress (APT::Status-Fd). */
export const STATUS_DESCRIPTOR = 3;

type CommandOptions = Readonly<{
  /** After so long the program is ended and `timedOut` is true. */
  timeoutMs: number;
  signal?: AbortSignal | undefined;
  /** Called with each line the program writes on descriptor 3. */
  onStatusLine?: (line: string) => void;
  /** The whole environment; the caller's own (with its proxies) when absent. */
  environment?: Readonly<Record<string, string>>;
}>;

/** How the program ended, with the last characters of its two outputs in order of arrival. */
export type CommandEnd = Readonly<{ succeeded: boolean; timedOut: boolean; output: string }>;

/**
 * Runs a program and waits for its end.
 *
 * @param program its full path
 * @param parameters its arguments; no shell sees them
 * @returns how it ended, whatever its exit code
 * @throws the error of the start (`ENOENT`, `EACCES`, …), or the abort reason
 */
export async function runCommand(
  program: string,
  parameters: readonly string[],
  options: CommandOptions,
): Promise<CommandEnd> {
  options.signal?.throwIfAborted();
  const child = spawn(program, parameters, {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', options.onStatusLine ? 'pipe' : 'ignore'],
    // A copy: under coverage Node adds a variable of its own to what it is given.
    ...(options.environment ? { env: { ...options.environment } } : {}),
  });
  const output = collectOutput(child);
  if (options.onStatusLine) {
    createInterface({ input: child.stdio[STATUS_DESCRIPTOR] as Readable })
      .on('line', options.onStatusLine);
  }
  const limit = endWhenDue(child, options);
  try {
    const succeeded = await ended(child);
    options.signal?.throwIfAborted();
    return { succeeded, timedOut: limit.timedOut(), output: output() };
  } finally {
    limit.clear();
  }
}

/**
 * The last non-empty lines of an output, for the error that a person reads.
 *
 * @param output what a program wrote
 * @param count how many lines at most
 */
export function lastLines(output: string, count: number): string[] {
  return output.split('\n').map((line) => line.trimEnd()).filter((line) => line !== '')
    .slice(-count);
}

/**
 * Sends a signal to a process group; a group that is gone is no error.
 *
 * @param processId the leader of the group
 */
function signalGroup(processId: number, name: NodeJS.Signals): void {
  try {
    process.kill(-processId, name);
  } catch (error) {
    if (errorCode(error) !== 'ESRCH') throw error;
  }
}

function collectOutput(child: ChildProcess): () => string {
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (part: string) => {
      text = (text + part).slice(-OUTPUT_MAX_CHARACTERS);
    });
  }
  return () => text;
}

function ended(child: ChildProcess): Promise<boolean> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code === 0));
  });
}

/** Ends the group when the time is over or the work is aborted: SIGTERM, then SIGKILL. */
function endWhenDue(child: ChildProcess, options: CommandOptions) {
  let timedOut = false;
  let killer: NodeJS.Timeout | undefined;
  const end = () => {
    const processId = child.pid;
    if (processId === undefined || killer) return;
    signalGroup(processId, 'SIGTERM');
    killer = setTimeout(() => {
      signalGroup(processId, 'SIGKILL');
      // Whoever left the group may still hold our pipes: do not wait for it.
      for (const stream of child.stdio) stream?.destroy();
    }, KILL_DELAY_MS);
  };
  const timer = setTimeout(() => {
    timedOut = true;
    end();
  }, options.timeoutMs);
  options.signal?.addEventListener('abort', end);
  return {
    timedOut: () => timedOut,
    clear: () => {
      clearTimeout(timer);
      clearTimeout(killer);
      options.signal?.removeEventListener('abort', end);
    },
  };
}
