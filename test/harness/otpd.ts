/** otpd as a user runs it, with an admin listener: a real process and its output. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { codesIn, withoutMessages } from './printed.ts';
import { COMPILED, ROOT, SHELL } from './program.ts';
import { recordCode, recordVisible } from './leak-recorder.ts';
import { eventually } from './waiting.ts';

export type Otpd = Readonly<{
  processId: number;
  port: number;
  adminPort: number;
  /** The printed codes, in order. */
  codes: () => string[];
  output: () => string;
  /** Waits, with a bound, for a text in the output. */
  prints: (text: string | RegExp) => Promise<void>;
  /** Sends a signal without waiting. */
  signal: (name: NodeJS.Signals) => void;
  stop: () => void;
  /** The exit code. */
  ended: Promise<number | null>;
}>;

export type StartOptions = Readonly<{
  /** A program, with its parameters, that runs otpd. */
  under?: readonly string[];
  /** The working folder: the project, or a copy of it. */
  folder?: string;
  /** The parameters of node that run otpd. */
  main?: readonly string[];
}>;

/** Starts otpd and waits until it is ready. */
export async function startOtpd(
  environment: object,
  { under = [], folder = ROOT, main = COMPILED }: StartOptions = {},
): Promise<Otpd> {
  const [program = '', ...parameters] = [...under, process.execPath, ...main, 'serve'];
  const child = spawn(program, parameters, {
    cwd: folder,
    env: { ...SHELL, PORT: '0', ADMIN_PORT: '0', ...environment } as NodeJS.ProcessEnv,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => { output += chunk.toString(); });
  }
  const codes = () => codesIn(output);
  const ended = once(child, 'close').then(([code]) => {
    for (const one of codes()) recordCode(one);
    recordVisible(withoutMessages(output));
    return code as number | null;
  });
  const portBehind = (words: string) =>
    Number(new RegExp(`${words} on https?://127\\.0\\.0\\.1:(\\d+)`).exec(output)?.[1] ?? 0);
  try {
    await eventually('otpd answers', () => {
      if (child.exitCode !== null) throw new Error(`otpd ended with ${child.exitCode}:\n${output}`);
      return portBehind('otpd answers') > 0;
    });
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
  return {
    processId: child.pid ?? 0,
    port: portBehind('otpd answers'),
    adminPort: portBehind('health and metrics'),
    codes,
    output: () => output,
    prints: (text) => eventually(`otpd prints ${text}`, () =>
      (typeof text === 'string' ? output.includes(text) : text.test(output))),
    signal: (name) => { child.kill(name); },
    stop: () => child.kill('SIGTERM'),
    ended,
  };
}

/** The ids of the otpd processes that an otpd process has started. */
export function childrenOf(processId: number): number[] {
  const ids = readFileSync(`/proc/${processId}/task/${processId}/children`, 'utf8');
  return ids.split(' ').filter((id) => id !== '').map(Number)
    .filter((id) => readFileSync(`/proc/${id}/cmdline`, 'utf8').includes('main.'));
}
