/** The idempotency keys of requests, in the rows of the codes that they issued. */
import { hexOf, nullableHexOf } from './hex.ts';
import type { Hex } from './hex.ts';
import { parseInstant } from './instant.ts';
import type { Instant } from './instant.ts';
import { joinKeys } from './keyed-rows.ts';
import type { Otp } from './otps.ts';
import { repeat, write } from './query.ts';
import type { Query, Write } from './query.ts';
import type { Row } from './session.ts';

/** 128 bits: no two keys of a day have one digest, and none can be made for another's. */
export const KEY_DIGEST_BYTES = 16;

/**
 * What a request was answered, and what it was: all that a repeat with its key needs. Once the user
 * has moved on, a fingerprint of KEY_DIGEST_BYTES is what is left of user and purpose.
 */
export type RequestAnswer = Pick<Otp, 'purpose' | 'otpId' | 'createdAt' | 'expiresAt'>
  & Readonly<{
    userId: string | null;
    fingerprint?: Hex | null;
    keyDigest: Hex;
    keyExpiresAt: Instant;
    remainingRequests: number;
  }>;

const LOAD_SQL = `SELECT user_id, purpose, fingerprint, otp_id, created_at, expires_at, key_digest,
  key_expires_at, remaining_requests FROM otps FORCE INDEX (by_key) WHERE key_digest IN (`;

/**
 * Reads the answers stored under keys, also those whose time is over.
 *
 * @param keyDigests unique, at least one
 */
export function loadRequestAnswers(keyDigests: readonly Hex[]): Query<RequestAnswer[]> {
  return {
    name: 'otps.by_key',
    sql: `${LOAD_SQL}${repeat(keyDigests.length, 'X?')})`,
    values: keyDigests,
    read: (rows) => rows.map(readAnswer),
  };
}

/** Frees those of the given keys whose time is over, so that they can be used anew. */
export function freeExpiredKeys(keyDigests: readonly Hex[]): Write {
  const form = { marks: 'X?', index: 'by_key' };
  const sql = `UPDATE ${joinKeys('otps', ['key_digest'], keyDigests.length, form)}
    SET t.key_digest = NULL, t.key_expires_at = NULL WHERE t.key_expires_at <= NOW(6)`;
  return write('otps.free_keys', sql, keyDigests);
}

/**
 * Asks whether a request was answered, waiting for a transaction that may still be at it.
 *
 * @param keyDigest a key that a transaction wrote whose COMMIT was not answered
 * @param otpId the code that it issued
 */
export function isRequestStored(keyDigest: Hex, otpId: Hex): Query<boolean> {
  return {
    name: 'otps.find_key',
    sql: 'SELECT otp_id FROM otps FORCE INDEX (by_key) WHERE key_digest = X? FOR UPDATE',
    values: [keyDigest],
    read: (rows) => rows.some((row) => hexOf(row.otp_id) === otpId),
  };
}

function readAnswer(row: Row): RequestAnswer {
  return {
    userId: row.user_id as string | null,
    purpose: row.purpose as string,
    fingerprint: nullableHexOf(row.fingerprint),
    otpId: hexOf(row.otp_id),
    createdAt: parseInstant(row.created_at as string),
    expiresAt: parseInstant(row.expires_at as string),
    keyDigest: hexOf(row.key_digest),
    keyExpiresAt: parseInstant(row.key_expires_at as string),
    remainingRequests: row.remaining_requests as number,
  };
}
