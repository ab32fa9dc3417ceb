/** How long an OTP is known, and which OTP of a pair counts (docs/api.md, "POST /otp/verify"). */
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { Retention } from '../../db/sweep/expired-rows.ts';
import type { Otp, OtpSummary, PairName } from '../../db/tables/otps.ts';
import { LIMIT_WINDOW_SECONDS, WINDOW_SECONDS } from '../policy/policy.ts';
import { isPointLive } from './rolling-window.ts';

/**
 * How long rows are kept. An OTP is known for a day plus the longest lifetime after it was issued
 * or last attempted, so that a late attempt gets "used" or "expired" and not "never issued". The
 * older OTPs of a pair always expire first. Its consecutive wrong attempts outlast it: they are
 * forgotten 30 days after the last one; the lock of an account is not (NIST SP 800-63B-4, 3.2.2).
 */
export const RETENTION: Retention = Object.freeze({
  otpSeconds: 87_000,
  ipPointSeconds: WINDOW_SECONDS,
  hitSeconds: LIMIT_WINDOW_SECONDS,
  wrongCountSeconds: 30 * 86_400,
});

/** Whether an OTP counts as never issued, even if its row has not been removed yet. */
export function isExpired(otp: OtpSummary, now: Instant): boolean {
  const lastEvent = Math.max(otp.createdAt, otp.lastWrongAt ?? otp.createdAt);
  return addSeconds(lastEvent, RETENTION.otpSeconds) <= now;
}

/**
 * Whether the clock has not reached a time that is past in every valid state, because it was set
 * back after the time was stored.
 */
export function isAhead(
  { createdAt, lastWrongAt, lockedUntil, lockSeconds }: OtpSummary,
  now: Instant,
): boolean {
  return createdAt > now || (lastWrongAt ?? now) > now
    || (lockedUntil ?? now) > addSeconds(now, lockSeconds);
}

/** A pair among the OTPs of one user. */
type PairOfUser = Pick<PairName, 'purpose' | 'device'>;

/** The newest OTP of a pair, or null when none is known. */
export function findKnownPair<T extends OtpSummary>(
  otps: readonly T[],
  pair: PairOfUser,
  now: Instant,
): T | null {
  const newest = findNewestOtp(otps, pair);
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
  return findNewestOtp(otps, otp) === otp && !isExpired(otp, now);
}

/**
 * Whether an OTP can be verified until it expires: it is neither used nor closed, and no newer OTP
 * of its pair supersedes it.
 *
 * @param otps all OTPs of the user
 */
export function isOpen(otp: Otp, otps: readonly Otp[]): boolean {
  return otp.digest !== null && findNewestOtp(otps, otp) === otp;
}

/**
 * The consecutive wrong attempts of a pair. The newest OTP has them, even when it has expired, and
 * nothing else; or, once that OTP was swept, its count alone is kept.
 */
export function countConsecutiveWrong(
  otps: readonly OtpSummary[],
  pair: PairOfUser,
  keptWrong: number,
): number {
  return keptWrong + (findNewestOtp(otps, pair)?.consecutiveWrong ?? 0);
}

/**
 * The consecutive wrong attempts of a user, of all pairs. Of each pair one OTP has them at most.
 *
 * @param otps all OTPs of the user
 * @param keptWrong the wrong attempts that no OTP has
 */
export function countAccountWrong(otps: readonly OtpSummary[], keptWrong: number): number {
  let count = keptWrong;
  for (const { consecutiveWrong } of otps) count += consecutiveWrong;
  return count;
}

/** The OTP that supersedes all others of its pair. */
export function findNewestOtp<T extends OtpSummary>(
  otps: readonly T[],
  pair: PairOfUser,
): T | null {
  let newest: T | null = null;
  for (const otp of otps) {
    if (isOfPair(otp, pair) && (newest === null || otp.number > newest.number)) newest = otp;
  }
  return newest;
}

/** @param otp an OTP of the same user */
export function isOfPair(otp: OtpSummary, { purpose, device }: PairOfUser): boolean {
  return otp.purpose === purpose && otp.device === device;
}
