/** The table otps: the newest code of each pair (user_id, purpose), and its wrong attempts. */
import { formatInstant, formatNullableInstant } from './instant.ts';
import { parseInstant, parseNullableInstant } from './instant.ts';
import type { Instant } from './instant.ts';
import { repeat, write } from './query.ts';
import type { Query, Write } from './query.ts';
import type { Row, Value } from './session.ts';

/** The name of a row. */
export type PairName = Readonly<{ userId: string; purpose: string }>;

/** What is known of a pair. See schema/0002-otps.sql for what each null means. */
export type Pair = PairName &
  Readonly<{
    otpId: Buffer;
    keyId: string;
    digest: Buffer | null;
    createdAt: Instant;
    expiresAt: Instant;
    redeemedAt: Instant | null;
    wrongAttempts: number;
    lastWrongAt: Instant | null;
    lockedUntil: Instant | null;
    consecutiveWrong: number;
    verifyIds: Buffer;
  }>;

// FORCE INDEX: a scan of a table that the server believes to be small would lock, and wait for,
// the rows of others, against the order of the locks.
const READ_SQL = `SELECT user_id, purpose, otp_id, key_id, digest, created_at, expires_at,
  redeemed_at, wrong_attempts, last_wrong_at, locked_until, consecutive_wrong, verify_ids
  FROM otps FORCE INDEX (PRIMARY) WHERE (user_id, purpose) IN (`;

/**
 * Reads pairs and locks the rows that exist until the end of the transaction.
 *
 * @param names unique; the server locks in the order of the primary key, whatever their order
 * @returns the pairs that exist, in no promised order
 */
export function lockPairs(names: readonly PairName[]): Query<Pair[]> {
  const { sql, ...query } = readPairs(names);
  return { ...query, name: 'otps.lock', sql: `${sql} FOR UPDATE` };
}

/** Reads pairs and locks nothing: enough to refuse, never to grant. */
export function readPairs(names: readonly PairName[]): Query<Pair[]> {
  return {
    name: 'otps.read',
    sql: `${READ_SQL}${repeat(names.length, '(?,?)')})`,
    values: names.flatMap(({ userId, purpose }) => [userId, purpose]),
    read: (rows) => rows.map(readPair),
  };
}

const STORE_SQL = `INSERT INTO otps (user_id, purpose, otp_id, key_id, digest, created_at,
  expires_at, redeemed_at, wrong_attempts, last_wrong_at, locked_until, consecutive_wrong,
  verify_ids) VALUES `;
const STORE_SQL_END = ` AS new ON DUPLICATE KEY UPDATE otp_id = new.otp_id, key_id = new.key_id,
  digest = new.digest, created_at = new.created_at, expires_at = new.expires_at,
  redeemed_at = new.redeemed_at, wrong_attempts = new.wrong_attempts,
  last_wrong_at = new.last_wrong_at, locked_until = new.locked_until,
  consecutive_wrong = new.consecutive_wrong, verify_ids = new.verify_ids`;

/** Writes pairs, new ones and changed ones, each once. */
export function storePairs(pairs: readonly Pair[]): Write {
  const values: Value[] = [];
  for (const pair of pairs) pushPair(values, pair);
  const rows = repeat(pairs.length, '(?,?,?,?,?,?,?,?,?,?,?,?,?)');
  return write('otps.store', `${STORE_SQL}${rows}${STORE_SQL_END}`, values);
}

function pushPair(values: Value[], pair: Pair): void {
  values.push(pair.userId, pair.purpose, pair.otpId, pair.keyId, pair.digest);
  values.push(formatInstant(pair.createdAt), formatInstant(pair.expiresAt));
  values.push(formatNullableInstant(pair.redeemedAt), pair.wrongAttempts);
  values.push(formatNullableInstant(pair.lastWrongAt), formatNullableInstant(pair.lockedUntil));
  values.push(pair.consecutiveWrong, pair.verifyIds);
}

function readPair(row: Row): Pair {
  return {
    userId: row.user_id as string,
    purpose: row.purpose as string,
    otpId: row.otp_id as Buffer,
    keyId: row.key_id as string,
    digest: row.digest as Buffer | null,
    createdAt: parseInstant(row.created_at as string),
    expiresAt: parseInstant(row.expires_at as string),
    redeemedAt: parseNullableInstant(row.redeemed_at as string | null),
    wrongAttempts: row.wrong_attempts as number,
    lastWrongAt: parseNullableInstant(row.last_wrong_at as string | null),
    lockedUntil: parseNullableInstant(row.locked_until as string | null),
    consecutiveWrong: row.consecutive_wrong as number,
    verifyIds: row.verify_ids as Buffer,
  };
}

/** How many bytes name a verification: enough, because only those of one pair must differ. */
export const VERIFY_ID_BYTES = 8;

/** Four: three wrong codes lock a pair, so more cannot follow while one COMMIT is in doubt. */
const VERIFY_IDS_MAX_BYTES = 4 * VERIFY_ID_BYTES;

/** The names of the verifications that changed a pair, once another one has. */
export function pushVerifyId(verifyIds: Buffer, verifyId: Buffer): Buffer {
  return Buffer.concat([verifyId, verifyIds]).subarray(0, VERIFY_IDS_MAX_BYTES);
}

/**
 * Asks whether a verification changed its pair, waiting for a transaction that may still be at it.
 *
 * @param name a pair that a transaction wrote whose COMMIT was not answered
 * @param verifyId the verification that it wrote
 */
export function isVerifyStored(name: PairName, verifyId: Buffer): Query<boolean> {
  const { read, ...query } = lockPairs([name]);
  const has = ({ verifyIds }: Pair): boolean => {
    for (let at = 0; at < verifyIds.length; at += VERIFY_ID_BYTES) {
      if (verifyIds.subarray(at, at + VERIFY_ID_BYTES).equals(verifyId)) return true;
    }
    return false;
  };
  return { ...query, read: (rows) => read(rows).some(has) };
}
