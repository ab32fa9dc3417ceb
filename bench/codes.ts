/**
 * Codes that the harness knows, for /otp/verify: issued in large batches by otpd's own code, in
 * the database of the otpd that is measured and under its secret, outside the measured time.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { CounterReader } from './counters.ts';
import { newAddress, newUser, PURPOSE } from './requests.ts';
import type { KnownCode } from './requests.ts';
import type { Target } from './target.ts';
import { openConnection } from '../src/db/connection.ts';
import { ConnectionPool } from '../src/db/pool.ts';
import { Sweeper } from '../src/db/sweep/sweeper.ts';
import type { Channel } from '../src/otp/channels/channel.ts';
import { parseSecrets } from '../src/otp/crypto/secrets.ts';
import { createDelivery } from '../src/otp/delivery/delivery.ts';
import type { OtpRequest } from '../src/otp/outcomes.ts';
import { createPolicies } from '../src/otp/policy/policy.ts';
import { requestOtps } from '../src/otp/request/request.ts';
import type { RequestDeps } from '../src/otp/request/request.ts';
import { KeyReading } from '../src/otp/request/screen.ts';

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
  const issuer = openIssuer(target, codes);
  await setDurable(counters, false);
  const lane = async (): Promise<void> => {
    while (codes.length < count) await issuer.issue(newInputs(BATCH_CODES));
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  await issuer.close();
  await setDurable(counters, true);
  return codes;
}

/** Issues codes in lists. */
export type Issuer = Readonly<{
  /** Issues codes to a list in one transaction. */
  issue: (inputs: readonly OtpRequest[]) => Promise<void>;
  /** Waits until all messages have been handed over. */
  close: () => Promise<void>;
}>;

/**
 * The code of otpd that issues codes, in this process, in the database of a target.
 *
 * @param codes where the codes of its messages go
 */
export function openIssuer(
  { settings, secrets: text }: Pick<Target, 'settings' | 'secrets'>,
  codes: KnownCode[],
): Issuer {
  const pool = new ConnectionPool(() => openConnection(settings), LANES);
  const policies = createPolicies();
  const secrets = secretsOf(text);
  const delivery = createDelivery({
    pool, policies, secrets, channels: [channelInto(codes)],
    templates: { localeFor: () => '' }, onEvent: () => {},
  });
  const keyReading = new KeyReading();
  const sweeper = new Sweeper();
  const parts: RequestDeps = { pool, policies, secrets, sweeper, delivery, keyReading };
  return {
    issue: async (inputs) => void (await requestOtps(parts, inputs)),
    close: async () => {
      // What were left would be taken over by the otpd that is measured, in the measured time.
      do await delay(DELIVERY_POLL_MS); while (delivery.held > 0);
      await delivery.stop(DELIVERY_POLL_MS);
      pool.close();
    },
  };
}

/** A channel that takes every message at once, and keeps its code. */
function channelInto(codes: KnownCode[]): Channel {
  return {
    name: 'console',
    addressFormat: null,
    accepts: () => true,
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

/** Requests of new users at new addresses. */
export function newInputs(count: number): OtpRequest[] {
  return Array.from({ length: count }, () => ({
    userId: newUser(),
    purpose: PURPOSE,
    clientIp: newAddress(),
    key: newUser(),
    acceptLanguage: '',
    apiClient: null,
  }));
}

function secretsOf(text: string) {
  const parsed = parseSecrets(text);
  if ('faults' in parsed) throw new Error(parsed.faults.join('; '));
  return parsed.secrets;
}
