/**
 * When wrong attempts lock a pair or an account, for how long, and which of them count at an
 * instant (docs/api.md, "POST /otp/verify"; NIST SP 800-63B-4, 3.2.2).
 */
import { addSeconds, secondsUntil } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { Hex } from '../../db/query.ts';
import type { Otp, OtpSummary } from '../../db/tables/otps.ts';
import { ACCOUNT_LOCK, UNTRUSTED_LOCK } from '../../db/tables/wrong-counts.ts';
import type { AccountLock } from '../../db/tables/wrong-counts.ts';
import type { Policy } from '../policy/policy.ts';

/** Stored with the newest OTP of a pair. */
type Attempts = Pick<Otp, 'wrongAttempts' | 'lastWrongAt' | 'lockedUntil'>;

export const NO_ATTEMPTS: Attempts = Object.freeze({
  wrongAttempts: 0,
  lastWrongAt: null,
  lockedUntil: null,
});

/**
 * How many consecutive wrong attempts of a user, of all pairs, lock the account for a client until
 * an operator unlocks it. The last ones are kept for trusted devices, so that no stranger can lock
 * those out. All purposes have the same limit, so the policy of any of them decides.
 *
 * @param device '' for an untrusted client
 */
function accountLimit({ wrongAttemptsUntilUnlock, deviceReserve }: Policy, device: Hex): number {
  return device === '' ? wrongAttemptsUntilUnlock - deviceReserve : wrongAttemptsUntilUnlock;
}

/**
 * Whether an account is locked for a client until an operator unlocks it.
 *
 * @param accountWrong the consecutive wrong attempts of the user, of all pairs
 * @param device '' for an untrusted client
 */
export function isAccountLocked(accountWrong: number, policy: Policy, device: Hex): boolean {
  return accountWrong >= accountLimit(policy, device);
}

/** The lock of an account that a number of consecutive wrong attempts begins, or null. */
export function accountLockAt(accountWrong: number, policy: Policy): AccountLock | null {
  if (accountWrong >= policy.wrongAttemptsUntilUnlock) return ACCOUNT_LOCK;
  return isAccountLocked(accountWrong, policy, '') ? UNTRUSTED_LOCK : null;
}

/**
 * Whole seconds until the lock of a pair ends, rounded up, or null when the pair is not locked.
 *
 * @param pair null when no OTP of the pair is known
 */
export function lockSecondsLeft(pair: OtpSummary | null, now: Instant): number | null {
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

/** A pair after a wrong attempt, with what the attempt begins. */
type WrongAttempt = Readonly<{
  pair: Otp;
  /** 0 or less when the attempt begins a lock. */
  attemptsRemaining: number;
  /** Whether the attempt locks the account for this client. */
  locksAccount: boolean;
}>;

/**
 * Adds a wrong attempt to an unlocked pair of an unlocked account. The last attempt of the pair
 * locks the pair for the length of a lock; the last one of the account locks the account, also when
 * the pair has attempts left. Either discards the digest of the code, which therefore stays dead
 * after the lock.
 *
 * @param accountWrong the consecutive wrong attempts of the user before this one
 */
export function addWrongAttempt(
  pair: Otp,
  accountWrong: number,
  now: Instant,
  policy: Policy,
): WrongAttempt {
  const wrongAttempts = countedAttempts(pair, now).wrongAttempts + 1;
  const leftOfPair = pair.attemptsMax - wrongAttempts;
  const leftOfAccount = accountLimit(policy, pair.device) - (accountWrong + 1);
  const attemptsRemaining = Math.min(leftOfPair, leftOfAccount);
  const counted = {
    ...pair,
    wrongAttempts,
    consecutiveWrong: pair.consecutiveWrong + 1,
    lastWrongAt: now,
    lockedUntil: leftOfPair > 0 ? null : addSeconds(now, pair.lockSeconds),
  };
  return {
    pair: attemptsRemaining > 0 ? counted : { ...counted, digest: null },
    attemptsRemaining,
    locksAccount: leftOfAccount <= 0,
  };
}
