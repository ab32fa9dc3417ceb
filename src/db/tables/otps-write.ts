/** Writes to the table otps: one statement for all OTPs of a batch. */
import { formatInstant, formatNullableInstant } from '../instant.ts';
import type { DeliveryFailure, Otp } from './otps.ts';
import { deleteFrom, joinKeys, orUpdate, repeat, write } from '../query.ts';
import type { Hex, Value, Write } from '../query.ts';

/** Enough for an id that must be unique only within its pair. */
export const VERIFY_ID_BYTES = 8;

/**
 * Covers the default lock after three wrong codes: no more verifications can follow while the
 * outcome of one COMMIT is unknown. Under a policy with more attempts an id may be pushed out; its
 * outcome then stays unknown.
 */
export const VERIFY_IDS_MAX = 4;

export const VERIFY_IDS_BYTES = VERIFY_IDS_MAX * VERIFY_ID_BYTES;

export const VERIFY_ID_DIGITS = 2 * VERIFY_ID_BYTES;

export function newestVerifyId(verifyIds: Hex): Hex {
  return verifyIds.slice(0, VERIFY_ID_DIGITS);
}

const PRIMARY_KEY = ['batch_id', 'batch_number'];

/** Given for every OTP. The state columns default to those of a pair without attempts. */
const ISSUE_COLUMNS = `user_id, number, purpose, otp_id, key_id, digest, created_at, expires_at,
  batch_id, batch_number, channel, code_digits, attempts_max, lock_seconds, remaining_requests`;
const UPDATE_PLACEHOLDERS = '?,?,?,X?,?,UNHEX(?),?,?,X?,?,?,?,?,?,?';
/** Written by the insert only: updateOtps leaves them as they are. */
const INSERT_COLUMNS = 'api_client, key_digest, key_expires_at';
const INSERT_ROW = '?,?,?,X?,?,X?,?,?,X?,?,?,?,?,?,?,?,X?,?';
const STATE_COLUMNS = `redeemed_at, wrong_attempts, last_wrong_at, locked_until, consecutive_wrong,
  verify_ids, close_reason, is_refunded`;
const STATE_PLACEHOLDERS = '?,?,?,?,?,X?,?,?';

const INSERT_NEW_SQL = `INSERT INTO otps (${ISSUE_COLUMNS}, ${INSERT_COLUMNS}) VALUES `;
/** Few OTPs have a fingerprint, a device, or the state of an earlier one of their pair. */
const INSERT_FULL_SQL =
  `INSERT INTO otps (${ISSUE_COLUMNS}, ${INSERT_COLUMNS}, fingerprint, device,
    ${STATE_COLUMNS}) VALUES `;
const UPDATE_SQL = `INSERT INTO otps (${ISSUE_COLUMNS}, ${STATE_COLUMNS}) VALUES `;
const UPDATE_SQL_END = orUpdate('digest', 'redeemed_at', 'wrong_attempts', 'last_wrong_at',
  'locked_until', 'consecutive_wrong', 'verify_ids', 'channel', 'close_reason', 'is_refunded');
// FORCE INDEX: the server may scan a table that it estimates to be small.
const ATTEMPTS_SQL = `UPDATE otps FORCE INDEX (PRIMARY) SET redeemed_at = ?, wrong_attempts = ?,
  last_wrong_at = ?, locked_until = ?, consecutive_wrong = ?,
  verify_ids = CONCAT(X?, LEFT(verify_ids, ${VERIFY_IDS_BYTES - VERIFY_ID_BYTES}))`;

/**
 * Inserts OTPs. A duplicate key means that another transaction took a number of the same user, or
 * an idempotency key, first: the caller retries.
 *
 * @param otps sorted by user: one lock order for all transactions prevents deadlocks
 */
export function insertOtps(otps: readonly Otp[]): Write {
  const isNew = otps.every(({ verifyIds, consecutiveWrong, device, fingerprint = null }) =>
    verifyIds === '' && consecutiveWrong === 0 && device === '' && fingerprint === null);
  const row = isNew ? `(${INSERT_ROW})` : `(${INSERT_ROW},UNHEX(?),X?,${STATE_PLACEHOLDERS})`;
  const values: Value[] = [];
  for (const otp of otps) {
    pushIssueValues(values, otp);
    values.push(otp.apiClient, otp.keyDigest, formatNullableInstant(otp.keyExpiresAt));
    if (isNew) continue;
    values.push(otp.fingerprint ?? null, otp.device);
    pushStateValues(values, otp);
  }
  const sql = (isNew ? INSERT_NEW_SQL : INSERT_FULL_SQL) + repeat(otps.length, row);
  return write('otps.insert', sql, values);
}

/**
 * Updates the mutable columns of OTPs that are locked. The duplicate is found by the primary key,
 * before any other index is searched.
 */
export function updateOtps(otps: readonly Otp[]): Write {
  const values: Value[] = [];
  for (const otp of otps) {
    pushIssueValues(values, otp);
    pushStateValues(values, otp);
  }
  const rows = repeat(otps.length, `(${UPDATE_PLACEHOLDERS},${STATE_PLACEHOLDERS})`);
  return write('otps.update', UPDATE_SQL + rows + UPDATE_SQL_END, values);
}

/**
 * Updates locked OTPs whose attempt columns all get the same values. Writing the values once costs
 * the server half of what a row of values per OTP costs.
 *
 * @param otps at least 1; equal in all written columns, and with the same new verify id
 */
export function storeAttempts(otps: readonly Otp[]): Write {
  const first = otps[0]!;
  const values: Value[] = [formatNullableInstant(first.redeemedAt), first.wrongAttempts,
    formatNullableInstant(first.lastWrongAt), formatNullableInstant(first.lockedUntil),
    first.consecutiveWrong, newestVerifyId(first.verifyIds)];
  for (const { batchId, batchNumber } of otps) values.push(batchId, batchNumber);
  // A digest is only ever erased, never replaced.
  const sql = `${ATTEMPTS_SQL}${first.digest === null ? ', digest = NULL' : ''}
    WHERE (batch_id, batch_number) IN (${repeat(otps.length, '(X?,?)')})`;
  return write('otps.store_attempts', sql, values);
}

const CLAMP_SQL = `expires_at = expires_at - INTERVAL
    GREATEST(0, TIMESTAMPDIFF(MICROSECOND, NOW(6), created_at)) MICROSECOND,
  key_expires_at = key_expires_at - INTERVAL
    GREATEST(0, TIMESTAMPDIFF(MICROSECOND, NOW(6), created_at)) MICROSECOND,
  created_at = LEAST(created_at, NOW(6)),
  redeemed_at = LEAST(redeemed_at, NOW(6)),
  last_wrong_at = LEAST(last_wrong_at, NOW(6)),
  locked_until = LEAST(locked_until, NOW(6) + INTERVAL lock_seconds SECOND)`;

/**
 * Sets the times of locked OTPs that the clock has not reached to now, because the clock was set
 * back after they were stored. What was to last for some time begins now, and so it ends.
 */
export function clampOtps(userIds: readonly string[]): Write {
  return write('otps.clamp', `UPDATE otps FORCE INDEX (by_user) SET ${CLAMP_SQL}
    WHERE user_id IN (${repeat(userIds.length, '?')})`, userIds);
}

/** Does the same for rows by their idempotency key, whichever users they belong to. */
export function clampKeys(keyDigests: readonly Hex[]): Write {
  return write('otps.clamp_keys', `UPDATE otps FORCE INDEX (by_key) SET ${CLAMP_SQL}
    WHERE key_digest IN (${repeat(keyDigests.length, 'X?')}) AND created_at > NOW(6)`, keyDigests);
}

function pushIssueValues(values: Value[], otp: Otp): void {
  values.push(otp.userId, otp.number, otp.purpose, otp.otpId, otp.keyId, otp.digest,
    formatInstant(otp.createdAt), formatInstant(otp.expiresAt), otp.batchId, otp.batchNumber,
    otp.channel, otp.codeDigits, otp.attemptsMax, otp.lockSeconds, otp.remainingRequests);
}

function pushStateValues(values: Value[], otp: Otp): void {
  values.push(formatNullableInstant(otp.redeemedAt), otp.wrongAttempts,
    formatNullableInstant(otp.lastWrongAt), formatNullableInstant(otp.lockedUntil),
    otp.consecutiveWrong, otp.verifyIds, otp.closeReason, otp.isRefunded ? 1 : 0);
}

/** An OTP, and why its message was not accepted. */
export type FailedDelivery = Readonly<{ otp: Otp; failure: DeliveryFailure }>;

const FAILURE_MAX_CHARACTERS = 100;

/** Stores the last failed attempts of OTPs that are locked. */
export function storeFailures(list: readonly FailedDelivery[]): Write {
  const rows = joinKeys('otps', PRIMARY_KEY, list.length, { placeholders: 'X?,?,?,?' });
  const sql = `UPDATE ${rows}
    SET t.failure_channel = named.column_2, t.failure_reason = named.column_3`;
  const values = list.flatMap(({ otp: { batchId, batchNumber }, failure: { channel, reason } }) =>
    [batchId, batchNumber, channel, reason.slice(0, FAILURE_MAX_CHARACTERS)]);
  return write('otps.store_failures', sql, values);
}

/** Deletes OTPs that are locked. */
export function deleteOtps(otps: readonly Otp[]): Write {
  const condition = `(batch_id, batch_number) IN (${repeat(otps.length, '(X?,?)')})`;
  const values = otps.flatMap(({ batchId, batchNumber }) => [batchId, batchNumber]);
  return write('otps.delete', deleteFrom('otps') + condition, values);
}

/** The fingerprint of the user and the purpose, which the row loses; one that it has stays. */
export type KeyOnlyOtp = Readonly<{ otp: Otp; fingerprint: Hex }>;

/** Strips locked rows down to their idempotency key. */
export function stripToKeys(stripped: readonly KeyOnlyOtp[]): Write {
  const rows = joinKeys('otps', PRIMARY_KEY, stripped.length, { placeholders: 'X?,?,X?' });
  const sql = `UPDATE ${rows} SET t.user_id = NULL, 
    t.fingerprint = COALESCE(t.fingerprint, named.column_2)`;
  const values = stripped.flatMap(({ otp: { batchId, batchNumber }, fingerprint }) =>
    [batchId, batchNumber, fingerprint]);
  return write('otps.strip_to_keys', sql, values);
}
