/** otpd processes on the database and with the provider of a test. */
import { join } from 'node:path';
import type { DatabaseSettings } from '../../src/db/connection.ts';
import { startOtpd } from './otpd.ts';
import type { Otpd } from './otpd.ts';
import { ROOT } from './program.ts';

const STOP_MAX_MS = 60_000;

/** Limits that no test reaches. */
export const GENEROUS_POLICY = join(ROOT, 'test/fixtures/generous-policy.json');

export type OtpdOptions = Readonly<{
  settings: DatabaseSettings;
  /** As in OTP_SECRETS. */
  secrets: string;
  webhookUrl: string;
  /** As in WEBHOOK_SECRETS. */
  webhookSecrets: string;
  /** More variables. */
  environment?: Readonly<Record<string, string>>;
}>;

const running = new Set<Otpd>();
const outputs: (() => string)[] = [];

/** A line that otpd logs for an internal error. */
const ERROR_LINE = /^.*"level":"error".*$/m;

/** Starts otpd, with loopback as a trusted proxy, and waits until it is ready. */
export async function startOtpdOn(options: OtpdOptions): Promise<Otpd> {
  const { settings, secrets, webhookUrl, webhookSecrets, environment = {} } = options;
  const otpd = await startOtpd({
    ADMIN_PORT: '', TRUSTED_PROXIES: '127.0.0.0/8', POLICY_FILE: GENEROUS_POLICY,
    DB_SOCKET: settings.socketPath ?? '', DB_NAME: settings.database ?? '',
    DB_USER: settings.user, DB_PASSWORD: settings.password, OTP_SECRETS: secrets,
    DELIVERY: 'webhook', WEBHOOK_URL: webhookUrl, WEBHOOK_SECRETS: webhookSecrets,
    ...environment,
  });
  outputs.push(otpd.output);
  running.add(otpd);
  void otpd.ended.then(() => running.delete(otpd));
  return otpd;
}

/** Stops the otpd processes that still run; throws when one has failed. */
export async function stopAllOtpd(): Promise<void> {
  const codes = await Promise.all([...running].map(async (otpd) => {
    otpd.signal('SIGCONT');
    otpd.stop();
    const late = setTimeout(() => otpd.signal('SIGKILL'), STOP_MAX_MS);
    const code = await otpd.ended;
    clearTimeout(late);
    return code;
  }));
  if (codes.some((code) => code !== 0)) throw new Error(`otpd ended with ${codes.join()}`);
}

/** The first internal error in the log of each otpd that was started. */
export function loggedErrors(): string[] {
  return outputs.flatMap((output) => ERROR_LINE.exec(output())?.[0] ?? []);
}
