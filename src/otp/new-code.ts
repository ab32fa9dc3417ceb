/** The new code of a pair, to which the count of wrong attempts moves on. */
import { addSeconds } from '../db/instant.ts';
import { newestOtp } from '../db/otps.ts';
import type { Otp } from '../db/otps.ts';
import { countedAttempts, NO_ATTEMPTS } from './attempts.ts';
import type { RequestInput, RequestState } from './decide-request.ts';
import { nextPlace } from './next-place.ts';
import type { Policy } from './policy.ts';
import { termsOf } from './terms.ts';

/** A pair of which nothing is known. */
const NEW_PAIR = Object.freeze({ consecutiveWrong: 0, verifyIds: '' });

/**
 * Makes the new code of a pair.
 *
 * @returns its row; and the one of the code that it supersedes, when that one must forget its
 *   attempts
 */
export function supersede({ now, otps }: RequestState, input: RequestInput, policy: Policy): Otp[] {
  const earlier = newestOtp(otps, input.purpose);
  const { slot, number } = nextPlace(otps, earlier, now);
  const { consecutiveWrong, verifyIds } = earlier ?? NEW_PAIR;
  const otp: Otp = {
    userId: input.userId,
    slot,
    number,
    purpose: input.purpose,
    otpId: input.otpId,
    keyId: input.keyId,
    digest: input.digest,
    createdAt: now,
    expiresAt: addSeconds(now, policy.lifetimeSeconds),
    redeemedAt: null,
    ...(earlier === null ? NO_ATTEMPTS
      : countedAttempts(earlier, now, termsOf(earlier, policy))),
    consecutiveWrong,
    verifyIds,
    bundleId: input.bundleId,
    channel: input.channel,
    ending: null,
    isRefunded: false,
    codeDigits: policy.codeDigits,
    attemptsMax: policy.wrongAttempts,
    lockSeconds: policy.lockSeconds,
  };
  // Left behind in a row of its own, the count would keep that row for ever.
  const isLeftBehind = earlier !== null && consecutiveWrong > 0 && earlier.slot !== slot;
  return isLeftBehind ? [otp, { ...earlier, consecutiveWrong: 0 }] : [otp];
}
