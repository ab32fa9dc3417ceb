/**
 * Codes that the harness knows, for /otp/verify: issued in large batches by otpd's own code, in
 * the database of the otpd that is measured and under its secret, outside the measured time.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { CounterReader } from './counters.ts';
import { newAddress, newUser, PURPOSE } from './requests.ts';
import type { KnownCode } from './requests.ts';
import type { Target } from './target.ts';
import { SessionPool } from '../src/db/pool.ts';
import { openSession } from '../src/db/session.ts';
import { Sweeper } from '../src/db/sweep.ts';
import type { Channel } from '../src/otp/channel.ts';
import { createDelivery } from '../src/otp/delivery/delivery.ts';
import { issueCodes } from '../src/otp/issue-codes.ts';
import { createPolicies } from '../src/otp/policy.ts';
import { parseSecrets } from '../src/otp/secrets.ts';
import type { IssueParts } from '../src/otp/issue-codes.ts';
import { KeyReading } from '../src/otp/key-reading.ts';

/** Large enough to be fast, small enough for a packet and a deadline. */
const BATCH_CODES = 200;
const LANES = 2;

/** Messages are handed over right after the batch. */
const DELIVERY_POLL_MS = 20;

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
  const policies = createPolicies();
  const secrets = secretsOf(target.secrets);
  const delivery = createDelivery({
    pool, policies, secrets, channels: [channelInto(codes)],
    words: { localeFor: () => '' }, note: () => {},
  });
  const keyReading = new KeyReading();
  const parts: IssueParts = { pool, policies, secrets, sweeper: new Sweeper(), delivery, keyReading };
  await setDurable(counters, false);
  const lane = async (): Promise<void> => {
    while (codes.length < count) await issueCodes(parts, newInputs());
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  // What were left would be taken over by the otpd that is measured, in the measured time.
  do await delay(DELIVERY_POLL_MS); while (delivery.held > 0);
  await delivery.stop(DELIVERY_POLL_MS);
  await setDurable(counters, true);
  pool.close();
  return codes;
}

/** A channel that takes every message at once, and keeps its code. */
function channelInto(codes: KnownCode[]): Channel {
  return {
    name: 'console',
    wants: null,
    reaches: () => true,
    send: async ({ userId, code }) => {
      codes.push({ userId, code });
      return { kind: 'accepted' };
    },
    close: () => {},
  };
}

/** Switches what a commit waits for, for all sessions. */
export async function setDurable(counters: CounterReader, isDurable: boolean): Promise<void> {
  const value = isDurable ? 1 : 0;
  await counters.run(`SET GLOBAL sync_binlog = ${value}`);
  await counters.run(`SET GLOBAL innodb_flush_log_at_trx_commit = ${value}`);
}

function newInputs() {
  return Array.from({ length: BATCH_CODES }, () => ({
    userId: newUser(),
    purpose: PURPOSE,
    address: newAddress(),
    key: newUser(),
    acceptLanguage: '',
    caller: null,
  }));
}

function secretsOf(text: string) {
  const parsed = parseSecrets(text);
  if ('faults' in parsed) throw new Error(parsed.faults.join('; '));
  return parsed.secrets;
}
