/** The table otps: the codes of every user, and the wrong attempts of every pair. */
import type { Hex } from './hex.ts';
import type { Instant } from './instant.ts';
import { repeat } from './query.ts';
import type { Query } from './query.ts';
import { readGlance, readOtp } from './read-otp.ts';

/** The name of a pair. */
export type PairName = Readonly<{ userId: string; purpose: string }>;

/**
 * A code that was issued. What each member and null means: schema/0002-otps.sql,
 * 0007-otps-delivery.sql, 0009-otps-policy.sql, 0011-otps-in-order.sql and 0012-otps-keys.sql.
 */
export type Otp = PairName &
  Readonly<{
    number: number;
    otpId: Hex;
    keyId: string;
    digest: Hex | null;
    createdAt: Instant;
    expiresAt: Instant;
    redeemedAt: Instant | null;
    wrongAttempts: number;
    lastWrongAt: Instant | null;
    lockedUntil: Instant | null;
    consecutiveWrong: number;
    verifyIds: Hex;
    bundleId: Hex;
    bundleNumber: number;
    channel: string | null;
    ending: Ending | null;
    isRefunded: boolean;
    codeDigits: number | null;
    attemptsMax: number | null;
    lockSeconds: number | null;
    /** KEY_DIGEST_BYTES. */
    keyDigest: Hex | null;
    keyExpiresAt: Instant | null;
    remainingRequests: number | null;
  }>;

/** Why a code can never be redeemed, beside its being redeemed and a lock. */
export type Ending = 'failed' | 'canceled';

/** What refusals rest on. */
export type OtpGlance = Pick<
  Otp,
  | 'userId' | 'number' | 'purpose' | 'createdAt' | 'lastWrongAt' | 'lockedUntil'
  | 'consecutiveWrong' | 'isRefunded'
>;

/**
 * How long a code is known after it was issued, or a wrong one was tried: a day and the longest
 * lifetime, to tell "used" and "expired" from "never issued". Of the codes of a pair the older ones
 * are always forgotten first.
 */
export const KNOWN_SECONDS = 87_000;

// FORCE INDEX: a scan of a table that the server believes to be small would lock, and wait for,
// the rows of others, against the order of the locks.
const FROM_SQL = 'FROM otps FORCE INDEX (by_user) WHERE user_id IN (';
const READ_SQL = `SELECT user_id, number, purpose, otp_id, key_id, digest, created_at,
  expires_at, redeemed_at, wrong_attempts, last_wrong_at, locked_until, consecutive_wrong,
  verify_ids, bundle_id, bundle_number, channel, ending, is_refunded, code_digits, attempts_max,
  lock_seconds, key_digest, key_expires_at, remaining_requests
  ${FROM_SQL}`;
const GLANCE_SQL = `SELECT user_id, number, purpose, created_at, last_wrong_at, locked_until,
  consecutive_wrong, is_refunded
  ${FROM_SQL}`;

/**
 * Reads all codes of users and locks those that exist until the end of the transaction. A user
 * who has none is arbitrated by `insertOtps`: whoever comes second is rerun.
 *
 * @param userIds unique; the server locks in the order of the index, whatever their order
 * @returns the codes, in no promised order
 */
export function lockOtps(userIds: readonly string[]): Query<Otp[]> {
  const { sql, ...query } = readOtps(userIds);
  return { ...query, name: 'otps.lock', sql: `${sql} FOR UPDATE` };
}

/** Reads all codes of users and locks nothing. */
export function readOtps(userIds: readonly string[]): Query<Otp[]> {
  return {
    name: 'otps.read',
    sql: `${READ_SQL}${repeat(userIds.length, '?')})`,
    values: userIds,
    read: (rows) => rows.map(readOtp),
  };
}

/** Reads of all codes of users what refusals rest on, and locks nothing. */
export function glanceAtOtps(userIds: readonly string[]): Query<OtpGlance[]> {
  return {
    name: 'otps.glance',
    sql: `${GLANCE_SQL}${repeat(userIds.length, '?')})`,
    values: userIds,
    read: (rows) => rows.map(readGlance),
  };
}

/** The code of a pair that supersedes all others of it, or null when none is known. */
export function newestOtp<T extends OtpGlance>(otps: readonly T[], purpose: string): T | null {
  let newest: T | null = null;
  for (const otp of otps) {
    if (otp.purpose === purpose && (newest === null || otp.number > newest.number)) newest = otp;
  }
  return newest;
}
