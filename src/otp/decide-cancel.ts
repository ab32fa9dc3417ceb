/** The rule of DELETE /otp/{otp_id} as a pure function. */
import type { Instant } from '../db/instant.ts';
import type { Otp } from '../db/otps.ts';
import { isNeeded, isOpen } from './known-pair.ts';
import type { CancelOutcome } from './outcome.ts';

/** How it ends, and the row to write: null when nothing changes. */
export type CancelDecision = Readonly<{ outcome: CancelOutcome; otp: Otp | null }>;

/**
 * Decides a cancellation: an open code is closed, and its quota points stay used.
 *
 * @param otp the code, or null when none has the name
 * @param otps all codes of its user, read while they are locked
 */
export function decideCancel(
  otp: Otp | null,
  otps: readonly Otp[],
  now: Instant,
): CancelDecision {
  if (otp === null || !isNeeded(otp, otps, now)) return end('unknown');
  if (otp.ending === 'canceled') return end('canceled');
  if (otp.redeemedAt !== null) return end('used');
  const mayBeRedeemed = isOpen(otp, otps) && now < otp.expiresAt;
  if (!mayBeRedeemed) return end('expired');
  return end('canceled', { ...otp, digest: null, ending: 'canceled' });
}

function end(kind: CancelOutcome['kind'], otp: Otp | null = null): CancelDecision {
  return { outcome: { kind }, otp };
}
