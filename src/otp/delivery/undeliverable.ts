/**
 * The rule for an OTP whose message no channel has accepted, as a pure function: close the OTP and
 * refund its points.
 */
import type { Instant } from '../../db/instant.ts';
import type { Otp } from '../../db/tables/otps.ts';
import type { Policy } from '../policy/policy.ts';
import { refundPoint } from '../rules/ip-limit.ts';
import type { IpLimitChange, IpWindow } from '../rules/ip-limit.ts';
import { isPointLive } from '../rules/rolling-window.ts';

/** Rows that were read while the user and the client IP were locked. */
type FailureState = Readonly<{
  now: Instant;
  otp: Otp;
  /** All OTPs of the user, with the one that is closed. */
  otps: readonly Otp[];
  /** Null when the client IP is unknown or does not count. */
  ipWindow: IpWindow | null;
}>;

type FailureWrites = Readonly<{ otp: Otp; ipChange: IpLimitChange | null }>;

/**
 * Closes the OTP and decides the refunds. At most as many points as the limit has are refunded per
 * window, because requests for an unreachable user would otherwise reach the provider without a
 * limit.
 * @returns null when the OTP is redeemed or closed, so that nothing changes
 */
export function decideFailure(
  { now, otp, otps, ipWindow }: FailureState,
  policy: Policy,
): FailureWrites | null {
  if (otp.redeemedAt !== null || otp.closeReason !== null) return null;
  const refunds = otps.filter((other) => other.isRefunded && isPointLive(other.createdAt, now));
  const isRefunded = isPointLive(otp.createdAt, now) && refunds.length < policy.userLimit;
  return {
    otp: { ...otp, digest: null, closeReason: 'failed', isRefunded },
    ipChange: ipWindow === null ? null
      : refundPoint(ipWindow, otp.createdAt, now, policy.addressLimit),
  };
}
