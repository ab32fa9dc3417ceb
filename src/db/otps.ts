/** The table otps: the codes of every user, and the wrong attempts of every pair. */
import type { Value } from './bind.ts';
import type { Hex } from './hex.ts';
import { formatInstant, formatNullableInstant } from './instant.ts';
import type { Instant } from './instant.ts';
import { joinKeys } from './keyed-rows.ts';
import { repeat, write } from './query.ts';
import type { Query, Write } from './query.ts';
import { readGlance, readOtp } from './read-otp.ts';

/** The name of a pair. */
export type PairName = Readonly<{ userId: string; purpose: string }>;

/**
 * A code that was issued. What each member and null means: schema/0002-otps.sql,
 * 0007-otps-delivery.sql, 0009-otps-policy.sql and 0011-otps-in-order.sql.
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
  lock_seconds
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

/** What every new code has; the rest has a default that is right for a pair without attempts. */
const NEW_COLUMNS = `user_id, number, purpose, otp_id, key_id, digest, created_at, expires_at,
  bundle_id, bundle_number, channel, code_digits, attempts_max, lock_seconds`;
const NEW_ROW = '(?,?,?,X?,?,X?,?,?,X?,?,?,?,?,?)';
const LATER_COLUMNS = `redeemed_at, wrong_attempts, last_wrong_at, locked_until, consecutive_wrong,
  verify_ids, ending, is_refunded`;
const WHOLE_ROW = '(?,?,?,X?,?,UNHEX(?),?,?,X?,?,?,?,?,?,?,?,?,?,?,X?,?,?)';

const INSERT_NEW_SQL = `INSERT INTO otps (${NEW_COLUMNS}) VALUES `;
const INSERT_WHOLE_SQL = `INSERT INTO otps (${NEW_COLUMNS}, ${LATER_COLUMNS}) VALUES `;
const UPDATE_SQL_END = ` AS new ON DUPLICATE KEY UPDATE digest = new.digest,
  redeemed_at = new.redeemed_at, wrong_attempts = new.wrong_attempts,
  last_wrong_at = new.last_wrong_at, locked_until = new.locked_until,
  consecutive_wrong = new.consecutive_wrong, verify_ids = new.verify_ids, channel = new.channel,
  ending = new.ending, is_refunded = new.is_refunded`;

/**
 * Writes codes that did not exist; fails, to be rerun, when another transaction was first to use
 * one of the numbers of their users.
 *
 * @param otps sorted by user, so that transactions never wait for each other in a ring
 */
export function insertOtps(otps: readonly Otp[]): Write {
  const isNew = otps.every(({ verifyIds }) => verifyIds.length === 0);
  const rows = repeat(otps.length, isNew ? NEW_ROW : WHOLE_ROW);
  const sql = (isNew ? INSERT_NEW_SQL : INSERT_WHOLE_SQL) + rows;
  return write('otps.insert', sql, valuesOf(otps, isNew));
}

/**
 * Writes what may change of codes that exist and are locked. The primary key is what they are found
 * by, before any other index is looked at.
 */
export function updateOtps(otps: readonly Otp[]): Write {
  const sql = INSERT_WHOLE_SQL + repeat(otps.length, WHOLE_ROW) + UPDATE_SQL_END;
  return write('otps.update', sql, valuesOf(otps, false));
}

/** Takes away codes that exist and are locked. */
export function deleteOtps(otps: readonly Otp[]): Write {
  const key = ['bundle_id', 'bundle_number'];
  const rows = joinKeys('otps', key, otps.length, { marks: 'X?,?' });
  const values = otps.flatMap(({ bundleId, bundleNumber }) => [bundleId, bundleNumber]);
  return write('otps.delete', `DELETE t FROM ${rows}`, values);
}

function valuesOf(otps: readonly Otp[], isNew: boolean): Value[] {
  const values: Value[] = [];
  for (const otp of otps) {
    values.push(otp.userId, otp.number, otp.purpose, otp.otpId, otp.keyId, otp.digest,
      formatInstant(otp.createdAt), formatInstant(otp.expiresAt), otp.bundleId, otp.bundleNumber,
      otp.channel, otp.codeDigits, otp.attemptsMax, otp.lockSeconds);
    if (isNew) continue;
    values.push(formatNullableInstant(otp.redeemedAt), otp.wrongAttempts,
      formatNullableInstant(otp.lastWrongAt), formatNullableInstant(otp.lockedUntil),
      otp.consecutiveWrong, otp.verifyIds, otp.ending, otp.isRefunded ? 1 : 0);
  }
  return values;
}

/** The code of a pair that supersedes all others of it, or null when none is known. */
export function newestOtp<T extends OtpGlance>(otps: readonly T[], purpose: string): T | null {
  let newest: T | null = null;
  for (const otp of otps) {
    if (otp.purpose === purpose && (newest === null || otp.number > newest.number)) newest = otp;
  }
  return newest;
}
