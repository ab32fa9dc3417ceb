/** How codes are written to the table otps: all codes of a list in one statement. */
import type { Value } from '../bind.ts';
import { formatInstant, formatNullableInstant } from '../instant.ts';
import type { Otp } from './otps.ts';
import { joinKeys, repeat, write } from '../query.ts';
import type { Hex, Write } from '../query.ts';

/** How many bytes name a verification: enough, because only those of one pair must differ. */
export const VERIFY_ID_BYTES = 8;

/**
 * Enough for the usual lock after three wrong codes: no more can follow while one COMMIT is in
 * doubt. Where a policy allows more, what was pushed out is not known, and is not guessed.
 */
export const VERIFY_IDS_MAX = 4;

/** How many bytes the names of a pair take at the most. */
export const VERIFY_IDS_BYTES = VERIFY_IDS_MAX * VERIFY_ID_BYTES;

export const VERIFY_ID_DIGITS = 2 * VERIFY_ID_BYTES;

/** The name of the verification that changed a pair last. */
export function newestVerifyId(verifyIds: Hex): Hex {
  return verifyIds.slice(0, VERIFY_ID_DIGITS);
}

/** The primary key, to name rows by. */
const PRIMARY_KEY = ['batch_id', 'batch_number'];

/** What every code has; the rest has a default that is right for a pair without attempts. */
const ISSUE_COLUMNS = `user_id, number, purpose, otp_id, key_id, digest, created_at, expires_at,
  batch_id, batch_number, channel, code_digits, attempts_max, lock_seconds, remaining_requests`;
const UPDATE_PLACEHOLDERS = '?,?,?,X?,?,UNHEX(?),?,?,X?,?,?,?,?,?,?';
/** What a row gets with its code, and keeps. */
const KEY_COLUMNS = 'key_digest, key_expires_at';
const INSERT_ROW = '?,?,?,X?,?,X?,?,?,X?,?,?,?,?,?,?,X?,?';
const STATE_COLUMNS = `redeemed_at, wrong_attempts, last_wrong_at, locked_until, consecutive_wrong,
  verify_ids, close_reason, is_refunded`;
const STATE_PLACEHOLDERS = '?,?,?,?,?,X?,?,?';

const INSERT_NEW_SQL = `INSERT INTO otps (${ISSUE_COLUMNS}, ${KEY_COLUMNS}) VALUES `;
const INSERT_WITH_STATE_SQL =
  `INSERT INTO otps (${ISSUE_COLUMNS}, ${KEY_COLUMNS}, ${STATE_COLUMNS}) VALUES `;
const UPDATE_SQL = `INSERT INTO otps (${ISSUE_COLUMNS}, ${STATE_COLUMNS}) VALUES `;
const UPDATE_SQL_END = ` AS new ON DUPLICATE KEY UPDATE digest = new.digest,
  redeemed_at = new.redeemed_at, wrong_attempts = new.wrong_attempts,
  last_wrong_at = new.last_wrong_at, locked_until = new.locked_until,
  consecutive_wrong = new.consecutive_wrong, verify_ids = new.verify_ids, channel = new.channel,
  close_reason = new.close_reason, is_refunded = new.is_refunded`;
// FORCE INDEX: a table that the server believes to be small would be read whole.
const ATTEMPTS_SQL = `UPDATE otps FORCE INDEX (PRIMARY) SET redeemed_at = ?, wrong_attempts = ?,
  last_wrong_at = ?, locked_until = ?, consecutive_wrong = ?,
  verify_ids = CONCAT(X?, LEFT(verify_ids, ${VERIFY_IDS_BYTES - VERIFY_ID_BYTES}))`;

/**
 * Writes codes that did not exist; fails, to be rerun, when another transaction was first to use
 * one of the numbers of their users, or one of their keys.
 *
 * @param otps sorted by user, so that transactions never wait for each other in a ring
 */
export function insertOtps(otps: readonly Otp[]): Write {
  const isNew = otps.every(({ verifyIds }) => verifyIds.length === 0);
  const row = isNew ? `(${INSERT_ROW})` : `(${INSERT_ROW},${STATE_PLACEHOLDERS})`;
  const values: Value[] = [];
  for (const otp of otps) {
    pushIssueValues(values, otp);
    values.push(otp.keyDigest, formatNullableInstant(otp.keyExpiresAt));
    if (!isNew) pushStateValues(values, otp);
  }
  const sql = (isNew ? INSERT_NEW_SQL : INSERT_WITH_STATE_SQL) + repeat(otps.length, row);
  return write('otps.insert', sql, values);
}

/**
 * Writes what may change of codes that exist and are locked. The primary key is what they are found
 * by, before any other index is looked at.
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
 * Writes what attempts have changed in codes that exist and are locked, and that have come out
 * alike: values that are said once cost the server half of what a row of values for each does.
 *
 * @param otps alike in all that is written, the newest of their verify_ids among it, which they
 *   had not before; at least 1
 */
export function storeAttempts(otps: readonly Otp[]): Write {
  const first = otps[0]!;
  const values: Value[] = [formatNullableInstant(first.redeemedAt), first.wrongAttempts,
    formatNullableInstant(first.lastWrongAt), formatNullableInstant(first.lockedUntil),
    first.consecutiveWrong, newestVerifyId(first.verifyIds)];
  for (const { batchId, batchNumber } of otps) values.push(batchId, batchNumber);
  // A digest may be erased, and never becomes another one.
  const sql = `${ATTEMPTS_SQL}${first.digest === null ? ', digest = NULL' : ''}
    WHERE (batch_id, batch_number) IN (${repeat(otps.length, '(X?,?)')})`;
  return write('otps.store_attempts', sql, values);
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

/** Takes away codes that exist and are locked. */
export function deleteOtps(otps: readonly Otp[]): Write {
  const rows = joinKeys('otps', PRIMARY_KEY, otps.length, { placeholders: 'X?,?' });
  const values = otps.flatMap(({ batchId, batchNumber }) => [batchId, batchNumber]);
  return write('otps.delete', `DELETE t FROM ${rows}`, values);
}

/** A code of which no more is kept than its key, and what that was used for: a fingerprint. */
export type KeyOnlyOtp = Readonly<{ otp: Otp; fingerprint: Hex }>;

/** Keeps of codes that exist and are locked no more than their keys. */
export function stripToKeys(stripped: readonly KeyOnlyOtp[]): Write {
  const rows = joinKeys('otps', PRIMARY_KEY, stripped.length, { placeholders: 'X?,?,X?' });
  const sql = `UPDATE ${rows} SET t.user_id = NULL, t.fingerprint = named.column_2`;
  const values = stripped.flatMap(({ otp: { batchId, batchNumber }, fingerprint }) =>
    [batchId, batchNumber, fingerprint]);
  return write('otps.strip_to_keys', sql, values);
}
