/** The table idempotency_keys: answers that a repeat with the same key gets again. */
import type { Value } from './bind.ts';
import { hexOf } from './hex.ts';
import type { Hex } from './hex.ts';
import { formatInstant, parseInstant } from './instant.ts';
import type { Instant } from './instant.ts';
import { repeat, write } from './query.ts';
import type { Query, Write } from './query.ts';
import type { Row } from './session.ts';

/** A stored answer. See schema/0005-idempotency-keys.sql for what each null means. */
export type StoredAnswer = Readonly<{
  /** KEY_DIGEST_BYTES, as is the fingerprint. */
  keyDigest: Hex;
  fingerprint: Hex;
  keyId: string | null;
  otpId: Hex;
  ttlSeconds: number | null;
  remainingRequests: number | null;
  expiresAt: Instant;
}>;

/** 128 bits: no two keys of a day have one digest, and none can be made for another's. */
export const KEY_DIGEST_BYTES = 16;

const LOAD_SQL = `SELECT key_digest, fingerprint, key_id, otp_id, ttl_seconds, remaining_requests,
  expires_at FROM idempotency_keys FORCE INDEX (by_key) WHERE key_digest IN (`;

/**
 * Reads the answers stored under keys, also those whose time is over.
 *
 * @param keyDigests unique; may be empty
 */
export function loadAnswers(keyDigests: readonly Hex[]): Query<StoredAnswer[]> {
  return {
    name: 'idempotency_keys.load',
    sql: `${LOAD_SQL}${keyDigests.length === 0 ? 'NULL' : repeat(keyDigests.length, 'X?')})`,
    values: keyDigests,
    read: (rows) => rows.map(readAnswer),
  };
}

const ROW = '(X?,X?,?,X?,?,?,?)';
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
  const sql = STORE_SQL + repeat(answers.length, ROW);
  return write('idempotency_keys.store', sql, values);
}

/** Deletes those of the given keys whose time is over, so that they can be stored anew. */
export function deleteExpiredAnswers(keyDigests: readonly Hex[]): Write {
  const list = repeat(keyDigests.length, 'X?');
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
export function isAnswerStored(keyDigest: Hex, otpId: Hex): Query<boolean> {
  return {
    name: 'idempotency_keys.find',
    sql: `SELECT otp_id FROM idempotency_keys FORCE INDEX (by_key)
      WHERE key_digest = X? FOR UPDATE`,
    values: [keyDigest],
    read: (rows) => rows.some((row) => hexOf(row.otp_id) === otpId),
  };
}

function readAnswer(row: Row): StoredAnswer {
  return {
    keyDigest: hexOf(row.key_digest),
    fingerprint: hexOf(row.fingerprint),
    keyId: row.key_id as string | null,
    otpId: hexOf(row.otp_id),
    ttlSeconds: row.ttl_seconds as number | null,
    remainingRequests: row.remaining_requests as number | null,
    expiresAt: parseInstant(row.expires_at as string),
  };
}
