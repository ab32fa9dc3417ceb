/**
 * Runs a program in a process group of its own, with a timeout and a bounded output. An abort
 * ends the whole group.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { errorCode } from './error.ts';

/** The end of the output is enough to explain a failure. */
const OUTPUT_MAX_CHARACTERS = 16_384;

/** Time between SIGTERM and SIGKILL to a process group. */
const KILL_DELAY_MS = 3_000;

/** The descriptor on which apt reports its progress (APT::Status-Fd). */
export const STATUS_DESCRIPTOR = 3;

type CommandOptions = Readonly<{
  /** The program is ended after this time, and `timedOut` is true. */
  timeoutMs: number;
  signal?: AbortSignal | undefined;
  /** Called with each line that the program writes to descriptor 3. */
  onStatusLine?: (line: string) => void;
  /** The whole environment; toolEnvironment by default. */
  environment?: Readonly<NodeJS.ProcessEnv>;
}>;

/** The variables that a program may need. All others may be secrets of otpd. */
const TOOL_VARIABLE = /^(PATH|HOME|TMPDIR|LANG|LC_\w+|APT_CONFIG|(\w+_)?proxy)$/i;

/** The environment of programs such as apt-get, ps and dpkg-deb. */
export function toolEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => TOOL_VARIABLE.test(name)));
}

/** The result of a program. `output` is the end of both streams, in order of arrival. */
export type CommandEnd = Readonly<{ succeeded: boolean; timedOut: boolean; output: string }>;

/**
 * Runs a program and waits for its end. No shell interprets the parameters.
 *
 * @param program the full path
 * @returns the result, for any exit code
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
    // A copy, because Node adds a variable to this object when it measures coverage.
    env: { ...options.environment ?? toolEnvironment() },
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

/** The last `count` lines of an output that are not empty. */
export function lastLines(output: string, count: number): string[] {
  return output.split('\n').map((line) => line.trimEnd()).filter((line) => line !== '')
    .slice(-count);
}

/** Sends a signal to a process group. A group that has ended is no error. */
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

/** Ends the group on timeout or abort: SIGTERM, then SIGKILL. */
function endWhenDue(child: ChildProcess, options: CommandOptions) {
  let timedOut = false;
  let killer: NodeJS.Timeout | undefined;
  const end = () => {
    const processId = child.pid;
    if (processId === undefined || killer) return;
    signalGroup(processId, 'SIGTERM');
    killer = setTimeout(() => {
      signalGroup(processId, 'SIGKILL');
      // A process that left the group may keep the pipes open: they are closed from this side.
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
