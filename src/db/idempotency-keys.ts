/** The table idempotency_keys: answers that a repeat with the same key gets again. */
import { formatInstant, parseInstant } from './instant.ts';
import type { Instant } from './instant.ts';
import { repeat, write } from './query.ts';
import type { Query, Write } from './query.ts';
import type { Row, Value } from './session.ts';

/** A stored answer. See schema/0005-idempotency-keys.sql for what each null means. */
export type StoredAnswer = Readonly<{
  keyDigest: Buffer;
  fingerprint: Buffer;
  keyId: string | null;
  otpId: Buffer;
  ttlSeconds: number | null;
  remainingRequests: number | null;
  expiresAt: Instant;
}>;

// A join with one row, so that the clock comes back also when no key is known.
const LOAD_SQL = `SELECT NOW(6) AS now, k.key_digest, k.fingerprint, k.key_id, k.otp_id,
  k.ttl_seconds, k.remaining_requests, k.expires_at
  FROM (SELECT 1) AS one LEFT JOIN idempotency_keys AS k ON k.key_digest IN (`;

/**
 * Reads the database's clock and the answers stored under keys. Must run after the locks of the
 * transaction are held: NOW(6) is the time at which its statement started.
 *
 * @param keyDigests unique; may be empty
 */
export function loadClockAndAnswers(
  keyDigests: readonly Buffer[],
): Query<{ now: Instant; answers: StoredAnswer[] }> {
  const name = 'idempotency_keys.load';
  const read = (rows: readonly Row[]) => ({
    now: parseInstant(rows[0]?.now as string),
    answers: rows.filter((row) => (row.key_digest ?? null) !== null).map(readAnswer),
  });
  if (keyDigests.length === 0) return { name, sql: 'SELECT NOW(6) AS now', values: [], read };
  return { name, sql: `${LOAD_SQL}${repeat(keyDigests.length, '?')})`, values: keyDigests, read };
}

const STORE_SQL = `INSERT INTO idempotency_keys (key_digest, fingerprint, key_id, otp_id,
  ttl_seconds, remaining_requests, expires_at) VALUES `;

/**
 * Stores answers under keys that have none; fails, to be rerun, when another transaction stored
 * one of them first.
 *
 * @param answers sorted by keyDigest, so that transactions never wait for each other in a ring
 */
export function storeAnswers(answers: readonly StoredAnswer[]): Write {
  const values: Value[] = [];
  for (const answer of answers) {
    values.push(answer.keyDigest, answer.fingerprint, answer.keyId, answer.otpId);
    values.push(answer.ttlSeconds, answer.remainingRequests, formatInstant(answer.expiresAt));
  }
  const sql = STORE_SQL + repeat(answers.length, '(?,?,?,?,?,?,?)');
  return write('idempotency_keys.store', sql, values);
}

/** Deletes those of the given keys whose time is over, so that they can be stored anew. */
export function deleteExpiredAnswers(keyDigests: readonly Buffer[]): Write {
  const list = repeat(keyDigests.length, '?');
  const sql = `DELETE FROM idempotency_keys WHERE key_digest IN (${list})
    AND expires_at <= NOW(6)`;
  return write('idempotency_keys.delete_expired', sql, keyDigests);
}

/**
 * Asks whether an answer was stored, waiting for a transaction that may still be storing it.
 *
 * @param keyDigest a key that a transaction wrote whose COMMIT was not answered
 * @param otpId the code that it issued or redeemed
 */
export function isAnswerStored(keyDigest: Buffer, otpId: Buffer): Query<boolean> {
  return {
    name: 'idempotency_keys.find',
    sql: 'SELECT otp_id FROM idempotency_keys WHERE key_digest = ? FOR UPDATE',
    values: [keyDigest],
    read: (rows) => rows.some((row) => (row.otp_id as Buffer).equals(otpId)),
  };
}

function readAnswer(row: Row): StoredAnswer {
  return {
    keyDigest: row.key_digest as Buffer,
    fingerprint: row.fingerprint as Buffer,
    keyId: row.key_id as string | null,
    otpId: row.otp_id as Buffer,
    ttlSeconds: row.ttl_seconds as number | null,
    remainingRequests: row.remaining_requests as number | null,
    expiresAt: parseInstant(row.expires_at as string),
  };
}
