/**
 * Idempotency keys: those of requests are columns of otps, those of verifications are rows of
 * idempotency_keys.
 */
import { formatInstant, parseInstant } from '../instant.ts';
import type { Instant } from '../instant.ts';
import type { Otp } from './otps.ts';
import { deleteFrom, toHex, toNullableHex, repeat, write } from '../query.ts';
import type { Hex, Query, Row, Value, Write } from '../query.ts';

/** 128 bits: collisions are out of reach, and so is a second key for a given digest. */
export const KEY_DIGEST_BYTES = 16;

/**
 * The response to a request, and what identifies the request. The fingerprint of KEY_DIGEST_BYTES
 * stands for what the row does not say: the optional members of the request, and, in a row stripped
 * to its key, the user and the purpose as well. Null when user and purpose are all.
 */
export type StoredRequest
  = Pick<Otp, 'purpose' | 'otpId' | 'createdAt' | 'expiresAt' | 'fingerprint'> & Readonly<{
    userId: string | null;
    keyDigest: Hex;
    keyExpiresAt: Instant;
    remainingRequests: number;
  }>;

const LOAD_REQUESTS_SQL
  = `SELECT user_id, purpose, fingerprint, otp_id, created_at, expires_at, key_digest,
  key_expires_at, remaining_requests FROM otps FORCE INDEX (by_key) WHERE key_digest IN (`;

/**
 * Reads the requests stored under keys, expired ones included.
 *
 * @param keyDigests unique, at least one
 */
export function loadStoredRequests(keyDigests: readonly Hex[]): Query<StoredRequest[]> {
  return {
    name: 'otps.by_key',
    sql: `${LOAD_REQUESTS_SQL}${repeat(keyDigests.length, 'X?')})`,
    values: keyDigests,
    read: (rows) => rows.map(readStoredRequest),
  };
}

/** Removes the expired keys from their rows, so that other requests can use them. */
export function freeExpiredKeys(keyDigests: readonly Hex[]): Write {
  const sql = `UPDATE otps FORCE INDEX (by_key) SET key_digest = NULL, key_expires_at = NULL
    WHERE key_digest IN (${repeat(keyDigests.length, 'X?')}) AND key_expires_at <= NOW(6)`;
  return write('otps.free_keys', sql, keyDigests);
}

/**
 * Commit probe of a request. The locking read waits for a transaction that may still commit.
 *
 * @param keyDigest a key that the transaction wrote
 * @param otpId the OTP that it issued under the key
 */
export function isRequestStored(keyDigest: Hex, otpId: Hex): Query<boolean> {
  return {
    name: 'otps.find_key',
    sql: 'SELECT otp_id FROM otps FORCE INDEX (by_key) WHERE key_digest = X? FOR UPDATE',
    values: [keyDigest],
    read: (rows) => rows.some((row) => toHex(row.otp_id) === otpId),
  };
}

function readStoredRequest(row: Row): StoredRequest {
  return {
    userId: row.user_id as string | null,
    purpose: row.purpose as string,
    fingerprint: toNullableHex(row.fingerprint),
    otpId: toHex(row.otp_id),
    createdAt: parseInstant(row.created_at as string),
    expiresAt: parseInstant(row.expires_at as string),
    keyDigest: toHex(row.key_digest),
    keyExpiresAt: parseInstant(row.key_expires_at as string),
    remainingRequests: row.remaining_requests as number,
  };
}

/** Columns: schema/0006-idempotency-keys.sql. */
export type StoredVerification = Readonly<{
  /** KEY_DIGEST_BYTES, as is the fingerprint. */
  keyDigest: Hex;
  fingerprint: Hex;
  keyId: string;
  otpId: Hex;
  keyExpiresAt: Instant;
}>;

const LOAD_VERIFICATIONS_SQL = `SELECT key_digest, fingerprint, key_id, otp_id, expires_at
  FROM idempotency_keys FORCE INDEX (by_key) WHERE key_digest IN (`;

/**
 * Reads the verifications stored under keys, expired ones included.
 *
 * @param keyDigests unique, at least one
 */
export function loadStoredVerifications(keyDigests: readonly Hex[]): Query<StoredVerification[]> {
  return {
    name: 'idempotency_keys.load',
    sql: `${LOAD_VERIFICATIONS_SQL}${repeat(keyDigests.length, 'X?')})`,
    values: keyDigests,
    read: (rows) => rows.map(readStoredVerification),
  };
}

/**
 * Does the same and locks the rows. Lock order: last. Only one transaction can erase a response, so
 * it must hold the lock when it decides.
 */
export function lockStoredVerifications(keyDigests: readonly Hex[]): Query<StoredVerification[]> {
  const { sql, ...query } = loadStoredVerifications(keyDigests);
  return { ...query, name: 'idempotency_keys.lock', sql: `${sql} FOR UPDATE` };
}

const VERIFICATION_ROW = '(X?,X?,?,X?,?)';
const STORE_VERIFICATIONS_SQL
  = `INSERT INTO idempotency_keys (key_digest, fingerprint, key_id, otp_id,
  expires_at) VALUES `;

/**
 * Inserts verifications. A duplicate key means that another transaction was first: the caller
 * retries.
 *
 * @param answers sorted by keyDigest: one lock order for all transactions prevents deadlocks
 */
export function storeVerifications(answers: readonly StoredVerification[]): Write {
  const values: Value[] = [];
  for (const { keyDigest, fingerprint, keyId, otpId, keyExpiresAt } of answers) {
    values.push(keyDigest, fingerprint, keyId, otpId, formatInstant(keyExpiresAt));
  }
  return write(
    'idempotency_keys.store', STORE_VERIFICATIONS_SQL + repeat(answers.length, VERIFICATION_ROW),
    values,
  );
}

/**
 * Ends the time of locked responses. The rows stay until the sweep, so that the commit probe can
 * find what the transaction wrote.
 *
 * @param erased at least 1, all with the same end
 */
export function eraseVerifications(erased: readonly StoredVerification[]): Write {
  const sql = `UPDATE idempotency_keys FORCE INDEX (by_key) SET expires_at = ?
    WHERE key_digest IN (${repeat(erased.length, 'X?')})`;
  return write('idempotency_keys.erase', sql,
    [formatInstant(erased[0]!.keyExpiresAt), ...erased.map(({ keyDigest }) => keyDigest)]);
}

/**
 * Deletes expired verifications, so that others can use their keys. A row that another transaction
 * has replaced names another OTP and stays.
 */
export function deleteVerifications(expired: readonly StoredVerification[]): Write {
  const condition = `(key_digest, otp_id) IN (${repeat(expired.length, '(X?,X?)')})`;
  return write('idempotency_keys.delete', deleteFrom('idempotency_keys', 'by_key') + condition,
    expired.flatMap(({ keyDigest, otpId }) => [keyDigest, otpId]));
}

function readStoredVerification(row: Row): StoredVerification {
  return {
    keyDigest: toHex(row.key_digest),
    fingerprint: toHex(row.fingerprint),
    keyId: row.key_id as string,
    otpId: toHex(row.otp_id),
    keyExpiresAt: parseInstant(row.expires_at as string),
  };
}
