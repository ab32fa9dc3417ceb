/** A row of the table otps, as a statement gives it. */
import { hexOf, nullableHexOf } from './hex.ts';
import { parseInstant, parseNullableInstant } from './instant.ts';
import type { Ending, Otp, OtpGlance } from './otps.ts';
import type { Row } from './session.ts';

/** Reads what a refusal rests on. */
export function readGlance(row: Row): OtpGlance {
  return {
    userId: row.user_id as string,
    number: row.number as number,
    purpose: row.purpose as string,
    createdAt: parseInstant(row.created_at as string),
    lastWrongAt: parseNullableInstant(row.last_wrong_at as string | null),
    lockedUntil: parseNullableInstant(row.locked_until as string | null),
    consecutiveWrong: row.consecutive_wrong as number,
    isRefunded: row.is_refunded === 1,
  };
}

/** Reads a row, member by member: spreading a glance into it would take several times as long. */
export function readOtp(row: Row): Otp {
  const glance = readGlance(row);
  const { userId, number, purpose, createdAt, lastWrongAt, lockedUntil } = glance;
  return {
    userId,
    number,
    purpose,
    otpId: hexOf(row.otp_id),
    keyId: row.key_id as string,
    digest: nullableHexOf(row.digest),
    createdAt,
    expiresAt: parseInstant(row.expires_at as string),
    redeemedAt: parseNullableInstant(row.redeemed_at as string | null),
    wrongAttempts: row.wrong_attempts as number,
    lastWrongAt,
    lockedUntil,
    consecutiveWrong: glance.consecutiveWrong,
    verifyIds: hexOf(row.verify_ids),
    bundleId: hexOf(row.bundle_id),
    bundleNumber: row.bundle_number as number,
    channel: row.channel as string | null,
    ending: row.ending as Ending | null,
    isRefunded: glance.isRefunded,
    codeDigits: row.code_digits as number | null,
    attemptsMax: row.attempts_max as number | null,
    lockSeconds: row.lock_seconds as number | null,
    keyDigest: nullableHexOf(row.key_digest),
    keyExpiresAt: parseNullableInstant(row.key_expires_at as string | null),
    remainingRequests: row.remaining_requests as number | null,
  };
}
