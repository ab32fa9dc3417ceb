/** The table idempotency_keys: verifications that a repeat with the same key is answered again. */
import type { Value } from './bind.ts';
import { hexOf } from './hex.ts';
import type { Hex } from './hex.ts';
import { formatInstant, parseInstant } from './instant.ts';
import type { Instant } from './instant.ts';
import { repeat, write } from './query.ts';
import type { Query, Write } from './query.ts';
import type { Row } from './session.ts';

/** A verification under a key. What each member means: schema/0005-idempotency-keys.sql. */
export type VerifyAnswer = Readonly<{
  /** KEY_DIGEST_BYTES, as is the fingerprint. */
  keyDigest: Hex;
  fingerprint: Hex;
  keyId: string;
  otpId: Hex;
  keyExpiresAt: Instant;
}>;

const LOAD_SQL = `SELECT key_digest, fingerprint, key_id, otp_id, expires_at
  FROM idempotency_keys FORCE INDEX (by_key) WHERE key_digest IN (`;

/**
 * Reads what is stored under keys, also what is over.
 *
 * @param keyDigests unique; may be empty
 */
export function loadVerifyAnswers(keyDigests: readonly Hex[]): Query<VerifyAnswer[]> {
  return {
    name: 'idempotency_keys.load',
    sql: `${LOAD_SQL}${keyDigests.length === 0 ? 'NULL' : repeat(keyDigests.length, 'X?')})`,
    values: keyDigests,
    read: (rows) => rows.map(readAnswer),
  };
}

const ROW = '(X?,X?,?,X?,?)';
const STORE_SQL = `INSERT INTO idempotency_keys (key_digest, fingerprint, key_id, otp_id,
  expires_at) VALUES `;

/**
 * Stores verifications under keys that have none; fails, to be rerun, when another transaction
 * stored one of them first.
 *
 * @param answers sorted by keyDigest, so that transactions never wait for each other in a ring
 */
export function storeVerifyAnswers(answers: readonly VerifyAnswer[]): Write {
  const values: Value[] = [];
  for (const { keyDigest, fingerprint, keyId, otpId, keyExpiresAt } of answers) {
    values.push(keyDigest, fingerprint, keyId, otpId, formatInstant(keyExpiresAt));
  }
  return write('idempotency_keys.store', STORE_SQL + repeat(answers.length, ROW), values);
}

/** Deletes those of the given keys whose time is over, so that they can be stored anew. */
export function deleteExpiredAnswers(keyDigests: readonly Hex[]): Write {
  const list = repeat(keyDigests.length, 'X?');
  const sql = `DELETE FROM idempotency_keys WHERE key_digest IN (${list})
    AND expires_at <= NOW(6)`;
  return write('idempotency_keys.delete_expired', sql, keyDigests);
}

function readAnswer(row: Row): VerifyAnswer {
  return {
    keyDigest: hexOf(row.key_digest),
    fingerprint: hexOf(row.fingerprint),
    keyId: row.key_id as string,
    otpId: hexOf(row.otp_id),
    keyExpiresAt: parseInstant(row.expires_at as string),
  };
}
