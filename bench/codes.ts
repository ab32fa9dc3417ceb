/**
 * Codes that the harness knows, for /otp/verify: issued in large batches by otpd's own code, in
 * the database of the otpd that is measured and under its secret, outside the measured time.
 */
import type { CounterReader } from './counters.ts';
import { newAddress, newUser, PURPOSE } from './requests.ts';
import type { KnownCode } from './requests.ts';
import type { Target } from './target.ts';
import { OWNER_BYTES } from '../src/db/outbox.ts';
import { SessionPool } from '../src/db/pool.ts';
import { openSession } from '../src/db/session.ts';
import { Sweeper } from '../src/db/sweep.ts';
import type { Delivery } from '../src/otp/delivery/delivery.ts';
import { issueCodes } from '../src/otp/issue-codes.ts';
import { createPolicies } from '../src/otp/policy.ts';
import { parseSecrets } from '../src/otp/secrets.ts';
import type { IssueParts } from '../src/otp/issue-codes.ts';

/** Large enough to be fast, small enough for a packet and a deadline. */
const BATCH_CODES = 200;
const LANES = 2;

/** Takes every message at once; what is in the outbox is left there, and cleared at the end. */
function keepCodes(keep: (code: KnownCode) => void): Delivery {
  return {
    owner: '00'.repeat(OWNER_BYTES),
    channelFor: () => 'console',
    unreachable: () => null,
    localeFor: () => '',
    dispatch: (bundles) => {
      for (const { open } of bundles) {
        for (const { message: { userId, code } } of open) keep({ userId, code });
      }
    },
    held: 0,
    start: () => {},
    stop: () => Promise.resolve(),
  };
}

/**
 * Issues codes to new users. Durability is off meanwhile: only the speed of the preparation
 * differs.
 *
 * @param count how many, rounded up to whole batches
 */
export async function issueKnownCodes(
  target: Target,
  counters: CounterReader,
  count: number,
): Promise<KnownCode[]> {
  const codes: KnownCode[] = [];
  const pool = new SessionPool(() => openSession(target.settings), LANES);
  const parts: IssueParts = {
    pool,
    policies: createPolicies(),
    secrets: secretsOf(target.secrets),
    sweeper: new Sweeper(),
    delivery: keepCodes((code) => codes.push(code)),
  };
  await setDurable(counters, false);
  const lane = async (): Promise<void> => {
    while (codes.length < count) await issueCodes(parts, newInputs());
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  await setDurable(counters, true);
  pool.close();
  await counters.run(`TRUNCATE TABLE ${target.settings.database}.outbox`);
  return codes;
}

/** Switches what a commit waits for, for all sessions. */
export async function setDurable(counters: CounterReader, isDurable: boolean): Promise<void> {
  const value = isDurable ? 1 : 0;
  await counters.run(`SET GLOBAL sync_binlog = ${value}`);
  await counters.run(`SET GLOBAL innodb_flush_log_at_trx_commit = ${value}`);
}

function newInputs() {
  return Array.from({ length: BATCH_CODES }, () => ({
    acceptLanguage: '',
    userId: newUser(),
    purpose: PURPOSE,
    address: newAddress(),
    key: newUser(),
    caller: null,
  }));
}

function secretsOf(text: string) {
  const parsed = parseSecrets(text);
  if ('faults' in parsed) throw new Error(parsed.faults.join('; '));
  return parsed.secrets;
}
