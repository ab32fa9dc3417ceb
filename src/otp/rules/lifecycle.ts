/** What is still known of a pair (contract, POST /otp/verify: "no code known for the pair"). */
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { Retention } from '../../db/sweep/expired-rows.ts';
import type { Otp, OtpSummary } from '../../db/tables/otps.ts';
import { EXTRA_WINDOW_SECONDS, WINDOW_SECONDS } from '../policy/policy.ts';
import { isPointLive } from './rolling-window.ts';

/**
 * For how long rows are kept. An OTP is known for a day plus the longest lifetime after it was
 * issued or last attempted, so that a late attempt gets "used" or "expired" and not "never
 * issued". The older OTPs of a pair always expire first.
 */
export const RETENTION: Retention = Object.freeze({
  otpSeconds: 87_000,
  ipPointSeconds: WINDOW_SECONDS,
  hitSeconds: EXTRA_WINDOW_SECONDS,
});

/**
 * Whether a code counts as never issued. The row may be there or not: it is swept, or taken away,
 * some time later. A count of wrong codes is never forgotten (NIST SP 800-63B-4, 3.2.2).
 */
export function isExpired(otp: OtpSummary, now: Instant): boolean {
  const lastEvent = Math.max(otp.createdAt, otp.lastWrongAt ?? otp.createdAt);
  return otp.consecutiveWrong === 0 && addSeconds(lastEvent, RETENTION.otpSeconds) <= now;
}

/** The newest code of a pair, or null when none is known. */
export function findKnownPair<T extends OtpSummary>(
  otps: readonly T[],
  purpose: string,
  now: Instant,
): T | null {
  const newest = findNewestOtp(otps, purpose);
  return newest === null || isExpired(newest, now) ? null : newest;
}

/**
 * Whether the row of a code is needed: for its quota point, or for what it tells of its pair. What
 * is not needed is taken away with the next code, so nothing is told of it any more.
 *
 * @param otps all codes of the user
 */
export function isNeeded(otp: OtpSummary, otps: readonly OtpSummary[], now: Instant): boolean {
  if (isPointLive(otp.createdAt, now)) return true;
  return findNewestOtp(otps, otp.purpose) === otp && !isExpired(otp, now);
}

/**
 * Whether a code can be redeemed, unless its time is over: it was neither redeemed nor closed, and
 * no newer one of its pair has superseded it.
 *
 * @param otps all codes of the user
 */
export function isOpen(otp: Otp, otps: readonly Otp[]): boolean {
  return otp.digest !== null && findNewestOtp(otps, otp.purpose) === otp;
}

/** The code of a pair that supersedes all others of it, or null when none is known. */
export function findNewestOtp<T extends OtpSummary>(otps: readonly T[], purpose: string): T | null {
  let newest: T | null = null;
  for (const otp of otps) {
    if (otp.purpose === purpose && (newest === null || otp.number > newest.number)) newest = otp;
  }
  return newest;
}
