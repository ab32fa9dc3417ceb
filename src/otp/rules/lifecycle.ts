/** How long an OTP is known, and which OTP of a pair counts (docs/api.md, "POST /otp/verify"). */
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { Retention } from '../../db/sweep/expired-rows.ts';
import type { Otp, OtpSummary } from '../../db/tables/otps.ts';
import { EXTRA_WINDOW_SECONDS, WINDOW_SECONDS } from '../policy/policy.ts';
import { isPointLive } from './rolling-window.ts';

/**
 * How long rows are kept. An OTP is known for a day plus the longest lifetime after it was issued
 * or last attempted, so that a late attempt gets "used" or "expired" and not "never issued". The
 * older OTPs of a pair always expire first.
 */
export const RETENTION: Retention = Object.freeze({
  otpSeconds: 87_000,
  ipPointSeconds: WINDOW_SECONDS,
  hitSeconds: EXTRA_WINDOW_SECONDS,
});

/**
 * Whether an OTP counts as never issued, even if its row has not been removed yet. A count of
 * consecutive wrong codes never expires (NIST SP 800-63B-4, 3.2.2).
 */
export function isExpired(otp: OtpSummary, now: Instant): boolean {
  const lastEvent = Math.max(otp.createdAt, otp.lastWrongAt ?? otp.createdAt);
  return otp.consecutiveWrong === 0 && addSeconds(lastEvent, RETENTION.otpSeconds) <= now;
}

/** The newest OTP of a pair, or null when none is known. */
export function findKnownPair<T extends OtpSummary>(
  otps: readonly T[],
  purpose: string,
  now: Instant,
): T | null {
  const newest = findNewestOtp(otps, purpose);
  return newest === null || isExpired(newest, now) ? null : newest;
}

/**
 * Whether the row of an OTP is needed: for its point, or for the state of its pair. The next
 * request of the user removes a row that is not needed, so the OTP counts as unknown.
 *
 * @param otps all OTPs of the user
 */
export function isNeeded(otp: OtpSummary, otps: readonly OtpSummary[], now: Instant): boolean {
  if (isPointLive(otp.createdAt, now)) return true;
  return findNewestOtp(otps, otp.purpose) === otp && !isExpired(otp, now);
}

/**
 * Whether an OTP can be verified until it expires: it is neither used nor closed, and no newer OTP
 * of its pair supersedes it.
 *
 * @param otps all OTPs of the user
 */
export function isOpen(otp: Otp, otps: readonly Otp[]): boolean {
  return otp.digest !== null && findNewestOtp(otps, otp.purpose) === otp;
}

/** The OTP that supersedes all others of its pair. */
export function findNewestOtp<T extends OtpSummary>(otps: readonly T[], purpose: string): T | null {
  let newest: T | null = null;
  for (const otp of otps) {
    if (otp.purpose === purpose && (newest === null || otp.number > newest.number)) newest = otp;
  }
  return newest;
}
