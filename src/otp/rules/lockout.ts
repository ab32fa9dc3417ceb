/**
 * When wrong attempts lock a pair, for how long, and which of them count at an instant
 * (docs/api.md, "POST /otp/verify"; NIST SP 800-63B-4, 3.2.2).
 */
import { addSeconds, secondsUntil } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { Otp, OtpSummary } from '../../db/tables/otps.ts';
import type { Policy } from '../policy/policy.ts';

/** Stored with the newest OTP of a pair. */
type Attempts = Pick<Otp, 'wrongAttempts' | 'lastWrongAt' | 'lockedUntil'>;

export const NO_ATTEMPTS: Attempts = Object.freeze({
  wrongAttempts: 0,
  lastWrongAt: null,
  lockedUntil: null,
});

/**
 * Whole seconds until a lock ends, rounded up, or null when the pair is not locked. A pair with too
 * many consecutive wrong attempts stays locked until an operator unlocks it; since that lock has no
 * end, the result is the length of a lock.
 *
 * @param pair null when no OTP of the pair is known; its consecutive wrong attempts still count
 */
export function lockSecondsLeft(
  pair: OtpSummary | null,
  consecutiveWrong: number,
  now: Instant,
  policy: Policy,
): number | null {
  if (consecutiveWrong >= policy.wrongAttemptsUntilUnlock) return policy.lockSeconds;
  const lockedUntil = pair?.lockedUntil ?? null;
  return lockedUntil === null || lockedUntil <= now ? null : secondsUntil(now, lockedUntil);
}

/**
 * The wrong attempts of an unlocked pair that count: none after the end of a lock, and none after a
 * lock's length without a wrong attempt.
 */
export function countedAttempts(pair: Otp, now: Instant): Attempts {
  const { wrongAttempts, lastWrongAt, lockedUntil, lockSeconds } = pair;
  if (lastWrongAt === null || lockedUntil !== null) return NO_ATTEMPTS;
  if (addSeconds(lastWrongAt, lockSeconds) <= now) return NO_ATTEMPTS;
  return { wrongAttempts, lastWrongAt, lockedUntil };
}

/**
 * Adds a wrong attempt to an unlocked pair. The last attempt allowed locks the pair for the length
 * of a lock and discards the digest of its code, which therefore stays dead after the lock.
 *
 * @returns attemptsRemaining 0 or less when the pair is now locked
 */
export function addWrongAttempt(
  pair: Otp,
  now: Instant,
  policy: Policy,
): Readonly<{ pair: Otp; attemptsRemaining: number }> {
  const wrongAttempts = countedAttempts(pair, now).wrongAttempts + 1;
  const consecutiveWrong = pair.consecutiveWrong + 1;
  const attemptsRemaining = Math.min(
    pair.attemptsMax - wrongAttempts,
    policy.wrongAttemptsUntilUnlock - consecutiveWrong,
  );
  const counted = { ...pair, wrongAttempts, consecutiveWrong, lastWrongAt: now, lockedUntil: null };
  if (attemptsRemaining > 0) return { pair: counted, attemptsRemaining };
  const lockedUntil = addSeconds(now, pair.lockSeconds);
  return { pair: { ...counted, lockedUntil, digest: null }, attemptsRemaining };
}
