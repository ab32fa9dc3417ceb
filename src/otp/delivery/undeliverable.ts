/**
 * The rule for an OTP whose message no channel has accepted, as a pure function: close the OTP and
 * refund its points.
 */
import type { Instant } from '../../db/instant.ts';
import type { Otp } from '../../db/tables/otps.ts';
import type { Policy } from '../policy/policy.ts';
import { quotaOfSubject, refundPoint } from '../rules/ip-limit.ts';
import type { IpLimitChange, IpWindow } from '../rules/ip-limit.ts';
import { isPointLive } from '../rules/rolling-window.ts';

/** Rows that were read while the user and the subjects were locked. */
type FailureState = Readonly<{
  now: Instant;
  otp: Otp;
  /** All OTPs of the user, with the one that is closed. */
  otps: readonly Otp[];
  /** The points in slots of the subjects that the OTP counted for. */
  windows: readonly Readonly<{ subject: string; window: IpWindow }>[];
}>;

type Refund = Readonly<{ subject: string; change: IpLimitChange }>;

type FailureWrites = Readonly<{ otp: Otp; refunds: readonly Refund[] }>;

/**
 * Closes the OTP and decides the refunds. At most as many points as the limit has are refunded per
 * window, because requests for an unreachable user would otherwise reach the provider without a
 * limit.
 * @returns null when the OTP is redeemed or closed, so that nothing changes
 */
export function decideFailure(
  { now, otp, otps, windows }: FailureState,
  policy: Policy,
): FailureWrites | null {
  if (otp.redeemedAt !== null || otp.closeReason !== null) return null;
  const refunded = otps.filter((other) => other.isRefunded && isPointLive(other.createdAt, now));
  const own = refunded.filter(({ device }) => device === otp.device);
  const ofDevices = refunded.filter(({ device }) => device !== '');
  const isRefunded = isPointLive(otp.createdAt, now) && own.length < policy.userLimit
    && (otp.device === '' || ofDevices.length < policy.devicesLimit);
  return {
    otp: { ...otp, digest: null, closeReason: 'failed', isRefunded },
    refunds: windows.flatMap(({ subject, window }) => {
      const change = refundPoint(window, otp.createdAt, now, quotaOfSubject(policy, subject));
      return change === null ? [] : [{ subject, change }];
    }),
  };
}
