/**
 * Wrong attempts and locks of a pair: what is still in force at a given time (contract,
 * POST /otp/verify; NIST SP 800-63B-4, 3.2.2).
 */
import { addSeconds, secondsUntil } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { Otp, OtpSummary } from '../../db/tables/otps.ts';
import type { Policy } from '../policy/policy.ts';

/** What the newest code of a pair says of its wrong attempts. */
type Attempts = Pick<Otp, 'wrongAttempts' | 'lastWrongAt' | 'lockedUntil'>;

/** No wrong attempt, no lock. */
export const NO_ATTEMPTS: Attempts = Object.freeze({
  wrongAttempts: 0,
  lastWrongAt: null,
  lockedUntil: null,
});

/**
 * Whether a pair is locked.
 *
 * A pair that has reached the limit of consecutive wrong attempts stays locked until an operator
 * unlocks it; as there is no time to name, the length of a lock is named.
 *
 * @returns whole seconds to wait, rounded up, or null when it is not locked
 */
export function lockSecondsLeft(
  pair: OtpSummary,
  now: Instant,
  policy: Policy,
): number | null {
  if (pair.consecutiveWrong >= policy.wrongAttemptsUntilUnlock) return policy.lockSeconds;
  if (pair.lockedUntil === null || pair.lockedUntil <= now) return null;
  return secondsUntil(now, pair.lockedUntil);
}

/**
 * The attempts of an unlocked pair that still count: none after the end of a lock, and none
 * after a lock's length without a wrong attempt.
 */
export function countedAttempts(pair: Otp, now: Instant): Attempts {
  const { wrongAttempts, lastWrongAt, lockedUntil, lockSeconds } = pair;
  if (lastWrongAt === null || lockedUntil !== null) return NO_ATTEMPTS;
  if (addSeconds(lastWrongAt, lockSeconds) <= now) return NO_ATTEMPTS;
  return { wrongAttempts, lastWrongAt, lockedUntil };
}
