/** What is told of a code (GET /otp/{otp_id}), as a pure function. */
import type { Instant } from '../db/instant.ts';
import { newestOtp } from '../db/otps.ts';
import type { Otp } from '../db/otps.ts';
import { isNeeded } from './known-pair.ts';
import type { OtpStatus, StatusOutcome } from './outcome.ts';

/**
 * Tells it. The first that applies: canceled or failed, verified, superseded by a newer code of the
 * pair, closed by a lock, expired; then whether a channel has accepted the message.
 *
 * @param otp the code, or null when none has the name
 * @param otps all codes of its user
 * @param isUnsent whether its message is in the outbox
 */
export function statusOf(
  otp: Otp | null,
  otps: readonly Otp[],
  isUnsent: boolean,
  now: Instant,
): StatusOutcome {
  if (otp === null || !isNeeded(otp, otps, now)) return { kind: 'unknown' };
  const { otpId, purpose, createdAt, expiresAt } = otp;
  const status = findStatus(otp, otps, isUnsent, now);
  return {
    kind: 'known', otpId, purpose, status, channel: otp.channel ?? '', createdAt, expiresAt,
  };
}

function findStatus(
  otp: Otp,
  otps: readonly Otp[],
  isUnsent: boolean,
  now: Instant,
): OtpStatus {
  if (otp.ending !== null) return otp.ending;
  if (otp.redeemedAt !== null) return 'verified';
  if (newestOtp(otps, otp.purpose) !== otp) return 'superseded';
  if (otp.digest === null) return 'locked';
  if (otp.expiresAt <= now) return 'expired';
  return isUnsent ? 'pending' : 'sent';
}
