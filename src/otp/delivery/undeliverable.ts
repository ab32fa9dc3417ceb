/**
 * What becomes of a code whose message no channel has taken, as a pure function: it is closed, and
 * the quota points that it used are given back.
 */
import type { Instant } from '../../db/instant.ts';
import type { Otp } from '../../db/tables/otps.ts';
import type { Policy } from '../policy/policy.ts';
import { refundPoint } from '../rules/ip-limit.ts';
import type { IpLimitChange, IpWindow } from '../rules/ip-limit.ts';
import { isPointLive } from '../rules/rolling-window.ts';

/** What the database knows, read while user and address are locked. */
type FailureState = Readonly<{
  now: Instant;
  otp: Otp;
  /** All codes of the user. */
  otps: readonly Otp[];
  /** Of the client that asked for the code; null when that is not known, or not counted. */
  ipWindow: IpWindow | null;
}>;

/** The rows to write. */
type FailureWrites = Readonly<{ otp: Otp; ipChange: IpLimitChange | null }>;

/**
 * Decides it. No more points are given back in a window than the limit has: a user who cannot be
 * reached could ask for ever, and each time a provider would be asked.
 *
 * @returns null when nothing changes: the code was redeemed, so its message has arrived after all,
 *   or it has an ending
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
