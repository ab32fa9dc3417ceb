/** otpd itself, as a user starts it: `src/main.ts serve` in processes of its own. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DatabaseSettings } from '../../src/db/session.ts';
import { noteVisible } from './trail.ts';
import { eventually } from './waiting.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const START_MAX_MS = 30_000;

/** What a user's shell has, and nothing of otpd. */
const SHELL = { PATH: process.env.PATH, HOME: process.env.HOME,
  NODE_V8_COVERAGE: process.env.NODE_V8_COVERAGE };

/** Limits that no test of many codes reaches. */
const GENEROUS_POLICY = join(ROOT, 'test/fixtures/generous-policy.json');

/** A running otpd. */
export type OtpdProcess = Readonly<{
  port: number;
  /** All that it has printed. */
  output: () => string;
  /** Sends a signal, and waits for nothing. */
  signal: (name: NodeJS.Signals) => void;
  /** Its exit code; null when a signal ended it. */
  ended: Promise<number | null>;
}>;

/** What one is started with. */
export type OtpdOptions = Readonly<{
  settings: DatabaseSettings;
  /** As in OTP_SECRETS. */
  secrets: string;
  /** Where its messages go. */
  webhookUrl: string;
  /** As in WEBHOOK_SECRETS. */
  webhookSecrets: string;
  /** Other variables. */
  environment?: Readonly<Record<string, string>>;
}>;

const running = new Set<ChildProcess>();

/** What a mistake of otpd's own leaves in its log. */
const MISTAKE = /^.*"level":"error".*$/m;
const outputs: (() => string)[] = [];

/** Starts one on a database of a unix socket, trusting loopback as its proxy, and waits for it. */
export async function startOtpd(options: OtpdOptions): Promise<OtpdProcess> {
  const { settings, secrets, webhookUrl, webhookSecrets, environment = {} } = options;
  const child = spawn(process.execPath, ['--import', 'tsx', 'src/main.ts', 'serve'], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...SHELL, PORT: '0', TRUSTED_PROXIES: '127.0.0.0/8', POLICY_FILE: GENEROUS_POLICY,
      DB_SOCKET: settings.socketPath ?? '', DB_NAME: settings.database ?? '',
      DB_USER: settings.user, DB_PASSWORD: settings.password, OTP_SECRETS: secrets,
      DELIVERY: 'webhook', WEBHOOK_URL: webhookUrl, WEBHOOK_SECRETS: webhookSecrets,
      ...environment } as NodeJS.ProcessEnv,
  });
  running.add(child);
  let output = '';
  outputs.push(() => output);
  const take = (chunk: Buffer): void => { output += chunk.toString(); };
  child.stdout.on('data', take);
  child.stderr.on('data', take);
  const ended = once(child, 'close').then(([code]) => {
    running.delete(child);
    noteVisible(output);
    return code as number | null;
  });
  const port = (): number =>
    Number(/otpd answers on http:\/\/127\.0\.0\.1:(\d+)/.exec(output)?.[1] ?? 0);
  await eventually('otpd answers', () => {
    if (child.exitCode !== null) throw new Error(`otpd ended with ${child.exitCode}:\n${output}`);
    return port() !== 0;
  }, START_MAX_MS);
  return {
    port: port(),
    output: () => output,
    signal: (name) => { child.kill(name); },
    ended,
  };
}

/** Ends those that run still, asking them to stop; throws when one has failed. */
export async function stopAllOtpd(): Promise<void> {
  const codes = await Promise.all([...running].map(async (child) => {
    const exit = once(child, 'close');
    child.kill('SIGCONT');
    child.kill('SIGTERM');
    const late = setTimeout(() => child.kill('SIGKILL'), START_MAX_MS);
    const [code] = await exit;
    clearTimeout(late);
    return code as number | null;
  }));
  if (codes.some((code) => code !== 0)) throw new Error(`otpd ended with ${codes.join()}`);
}

/** What all that were started have logged of mistakes of their own: one line for each process. */
export function loggedMistakes(): string[] {
  return outputs.flatMap((output) => MISTAKE.exec(output())?.[0] ?? []);
}
