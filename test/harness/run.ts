/** Commands of otpd as a user runs them: real processes that a test observes. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { post } from './client.ts';
import { codesIn, withoutMessages } from './printed.ts';
import { COMPILED, ROOT, SHELL } from './program.ts';
import { recordCode, recordKey, recordVisible } from './leak-recorder.ts';

/** A bound for a busy machine. */
const WAIT_MAX_MS = 120_000;
const POLL_MS = 20;

/** A failed test may leave these running. */
const children = new Set<ChildProcess>();

/** A command that runs, or has run. */
export type Run = Readonly<{
  child: ChildProcess;
  /** `logged` is the standard error alone. */
  output: () => string;
  logged: () => string;
  /** The exit code. */
  ended: Promise<number | null>;
}>;

/** The secrets that `key new` prints; no log may contain them. */
const NEW_KEY = /otpd_[A-Za-z0-9_-]{43}|\b[0-9a-f]{64}\b/g;

/** Starts a command. PORT is 0 by default. */
export function start(
  parameters: string[],
  environment: object,
  program = COMPILED,
  folder = ROOT,
): Run {
  const child = spawn(process.execPath, [...program, ...parameters], {
    cwd: folder, env: { ...SHELL, PORT: '0', ...environment } as NodeJS.ProcessEnv,
  });
  children.add(child);
  let output = '';
  let logged = '';
  child.stdout.on('data', (chunk: Buffer) => { output += chunk.toString(); });
  child.stderr.on('data', (chunk: Buffer) => {
    output += chunk.toString();
    logged += chunk.toString();
  });
  const ended = once(child, 'close').then(([code]) => {
    for (const each of codesIn(output)) recordCode(each);
    if (parameters[0] === 'key') for (const [text] of output.matchAll(NEW_KEY)) recordKey(text);
    else recordVisible(withoutMessages(output));
    return code as number | null;
  });
  return { child, output: () => output, logged: () => logged, ended };
}

/** Polls until `find` returns a value. Fails with the output after WAIT_MAX_MS. */
export async function until<T>(run: Run, find: () => T | undefined | null | false): Promise<T> {
  for (let waited = 0; waited < WAIT_MAX_MS; waited += POLL_MS) {
    const found = find();
    if (found) return found;
    if (run.child.exitCode !== null) break;
    await delay(POLL_MS);
  }
  throw new Error(`not within ${WAIT_MAX_MS} ms: ${find}\n${run.output()}`);
}

/** The port in the banner of `serve`. */
export async function portOf(run: Run): Promise<number> {
  const pattern = /otpd answers on http:\/\/127\.0\.0\.1:(\d+)/;
  return Number(await until(run, () => pattern.exec(run.output())?.[1]));
}

/** Waits for the exit of a command; kills it after WAIT_MAX_MS. */
export async function finish(run: Run): Promise<number | null> {
  const late = setTimeout(() => run.child.kill('SIGKILL'), WAIT_MAX_MS);
  const code = await run.ended;
  clearTimeout(late);
  return code;
}

export function request(port: number, user: string, key: string) {
  return post({ port, path: '/otp/request', key, body: { user_id: user, purpose: 'login' } });
}

/** Runs `work` with a new folder, and removes the folder. */
export async function withFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'otpd-run-')));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Sends SIGTERM to every command that still runs. */
export function endAll(): void {
  for (const child of children) if (child.exitCode === null) child.kill('SIGTERM');
}
