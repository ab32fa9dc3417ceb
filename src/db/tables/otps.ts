/** Reads of the table otps: the OTPs of users, and the wrong attempts of their pairs. */
import { parseInstant, parseNullableInstant } from '../instant.ts';
import type { Instant } from '../instant.ts';
import { toHex, joinKeys, mapResult, toNullableHex, repeat } from '../query.ts';
import type { Hex, Query, Row } from '../query.ts';

/** A user and a purpose, for one trusted device or for all other clients of the user together. */
export type PairName = Readonly<{
  userId: string;
  purpose: string;
  /** '' for the untrusted clients. */
  device: Hex;
}>;

/**
 * Columns and the meaning of NULL: schema/0005-otps.sql, schema/0008-otps-api-client.sql,
 * schema/0012-otps-device.sql.
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
    batchId: Hex;
    batchNumber: number;
    channel: string;
    closeReason: CloseReason | null;
    isRefunded: boolean;
    codeDigits: number;
    attemptsMax: number;
    lockSeconds: number;
    /** KEY_DIGEST_BYTES; null once another request uses the expired key. */
    keyDigest: Hex | null;
    keyExpiresAt: Instant | null;
    remainingRequests: number;
    /** Null when it was requested without an API key. */
    apiClient: string | null;
    /** Of a new OTP only (db/tables/idempotency-keys.ts). */
    fingerprint?: Hex | null;
  }>;

type CloseReason = 'failed' | 'canceled';

/** Why the message of an OTP was not accepted; the channel is null where no attempt was made. */
export type DeliveryFailure = Readonly<{ channel: string | null; reason: string }>;

/** The columns that decide a refusal. */
export type OtpSummary = Pick<
  Otp,
  | 'userId' | 'number' | 'purpose' | 'device' | 'createdAt' | 'lastWrongAt' | 'lockedUntil'
  | 'lockSeconds' | 'consecutiveWrong' | 'isRefunded'
>;

// FORCE INDEX: the server may scan a table that it estimates to be small; a locking scan would lock
// rows of other transactions, against the lock order.
const FROM_SQL = 'FROM otps FORCE INDEX (by_user) WHERE user_id IN (';
const READ_SQL = `SELECT user_id, number, purpose, otp_id, key_id, digest, created_at,
  expires_at, redeemed_at, wrong_attempts, last_wrong_at, locked_until, consecutive_wrong,
  verify_ids, batch_id, batch_number, channel, close_reason, is_refunded, code_digits,
  attempts_max, lock_seconds, key_digest, key_expires_at, remaining_requests, api_client, device
  ${FROM_SQL}`;
const SUMMARY_SQL = `SELECT user_id, number, purpose, device, created_at, last_wrong_at,
  locked_until, lock_seconds, consecutive_wrong, is_refunded
  ${FROM_SQL}`;

/**
 * Reads and locks all OTPs of users, in no particular order. Lock order: first. A user without OTPs
 * has nothing to lock; of two transactions that insert the first OTP of a user the second fails and
 * retries.
 *
 * @param userIds unique; the server locks in the order of the index
 */
export function lockOtps(userIds: readonly string[]): Query<Otp[]> {
  const { sql, ...query } = readOtps(userIds);
  return { ...query, name: 'otps.lock', sql: `${sql} FOR UPDATE` };
}

/** Reads all OTPs of users without locking. */
export function readOtps(userIds: readonly string[]): Query<Otp[]> {
  return {
    name: 'otps.read',
    sql: `${READ_SQL}${repeat(userIds.length, '?')})`,
    values: userIds,
    read: (rows) => rows.map(readOtp),
  };
}

/** Reads only the columns that decide a refusal, without locking. */
export function readOtpSummaries(userIds: readonly string[]): Query<OtpSummary[]> {
  return {
    name: 'otps.summaries',
    sql: `${SUMMARY_SQL}${repeat(userIds.length, '?')})`,
    values: userIds,
    read: (rows) => rows.map(readSummary),
  };
}

/**
 * The last failed attempts to deliver the messages of a user, by otpId. They are columns that no
 * rule reads (schema/0011-otps-failure.sql).
 */
export function readFailures(userId: string): Query<Map<Hex, DeliveryFailure>> {
  return {
    name: 'otps.failures',
    sql: `SELECT otp_id, failure_channel, failure_reason ${FROM_SQL}?)
      AND failure_reason IS NOT NULL`,
    values: [userId],
    read: (rows) => new Map(rows.map((row) => [toHex(row.otp_id), {
      channel: row.failure_channel as string | null, reason: row.failure_reason as string,
    }])),
  };
}

/** The public id of an OTP, and the batch that the id decrypts to. */
export type OtpName = Readonly<{ otpId: Hex; batchId: Hex }>;

/**
 * Finds the users of OTPs without locking. A caller that changes an OTP then locks all OTPs of its
 * user and reads the OTP again.
 *
 * @returns the user by otpId, without the unknown ids
 */
export function findUsers(names: readonly OtpName[]): Query<Map<Hex, string>> {
  return {
    name: 'otps.find_users',
    sql: `SELECT t.otp_id, t.user_id FROM ${joinNames(names)} WHERE t.user_id IS NOT NULL`,
    values: toValues(names),
    read: (rows) => new Map(rows.map((row) => [toHex(row.otp_id), row.user_id as string])),
  };
}

/** Reads all OTPs of the users of the named OTPs without locking, in no particular order. */
export function readOtpsOfUsers(names: readonly OtpName[]): Query<Otp[]> {
  return {
    name: 'otps.read_of_users',
    sql: `SELECT all_of.* FROM (SELECT DISTINCT t.user_id FROM ${joinNames(names)}) AS users
      STRAIGHT_JOIN otps AS all_of FORCE INDEX (by_user) ON all_of.user_id = users.user_id`,
    values: toValues(names),
    read: (rows) => rows.map(readOtp),
  };
}

/** Joins by batch: a batch has at most a few dozen rows, adjacent in the primary key. */
function joinNames(names: readonly OtpName[]): string {
  return joinKeys('otps', ['batch_id', 'otp_id'], names.length, { placeholders: 'X?,X?' });
}

function toValues(names: readonly OtpName[]): Hex[] {
  return names.flatMap(({ batchId, otpId }) => [batchId, otpId]);
}

/**
 * Commit probe of a transaction that closed OTPs. The locking read waits for a transaction that may
 * still commit. It makes no difference whether another transaction closed some of them.
 *
 * @param written all OTPs that the transaction closed
 */
export function areClosed(
  written: readonly Pick<Otp, 'userId' | 'otpId'>[],
  reason: CloseReason,
): Query<boolean> {
  const lock = lockOtps([...new Set(written.map(({ userId }) => userId))]);
  return mapResult(lock, (otps) => {
    const closed = new Set(
      otps.filter((otp) => otp.closeReason === reason).map(({ otpId }) => otpId),
    );
    return written.every(({ otpId }) => closed.has(otpId));
  });
}

function readSummary(row: Row): OtpSummary {
  return {
    userId: row.user_id as string,
    number: row.number as number,
    purpose: row.purpose as string,
    device: toHex(row.device),
    createdAt: parseInstant(row.created_at as string),
    lastWrongAt: parseNullableInstant(row.last_wrong_at as string | null),
    lockedUntil: parseNullableInstant(row.locked_until as string | null),
    lockSeconds: row.lock_seconds as number,
    consecutiveWrong: row.consecutive_wrong as number,
    isRefunded: row.is_refunded === 1,
  };
}

/** Copies each member: spreading a summary takes several times as long. */
function readOtp(row: Row): Otp {
  const summary = readSummary(row);
  const { userId, number, purpose, device, createdAt, lastWrongAt, lockedUntil } = summary;
  return {
    userId,
    number,
    purpose,
    device,
    otpId: toHex(row.otp_id),
    keyId: row.key_id as string,
    digest: toNullableHex(row.digest),
    createdAt,
    expiresAt: parseInstant(row.expires_at as string),
    redeemedAt: parseNullableInstant(row.redeemed_at as string | null),
    wrongAttempts: row.wrong_attempts as number,
    lastWrongAt,
    lockedUntil,
    consecutiveWrong: summary.consecutiveWrong,
    verifyIds: toHex(row.verify_ids),
    batchId: toHex(row.batch_id),
    batchNumber: row.batch_number as number,
    channel: row.channel as string,
    closeReason: row.close_reason as CloseReason | null,
    isRefunded: summary.isRefunded,
    codeDigits: row.code_digits as number,
    attemptsMax: row.attempts_max as number,
    lockSeconds: summary.lockSeconds,
    keyDigest: toNullableHex(row.key_digest),
    keyExpiresAt: parseNullableInstant(row.key_expires_at as string | null),
    remainingRequests: row.remaining_requests as number,
    apiClient: row.api_client as string | null,
  };
}
