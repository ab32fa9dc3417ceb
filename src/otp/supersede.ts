/** The rows of a new code: it takes over what its pair counts, and the place of what is over. */
import { addSeconds } from '../db/instant.ts';
import type { Instant } from '../db/instant.ts';
import { newestOtp } from '../db/otps.ts';
import type { Otp } from '../db/otps.ts';
import { countedAttempts, NO_ATTEMPTS } from './attempts.ts';
import type { IssuedOtp, RequestInput, RequestState, RequestWrites } from './decide-request.ts';
import { isNeeded } from './known-pair.ts';
import type { Policy } from './policy.ts';
import { termsOf } from './terms.ts';

/** A pair of which nothing is known. */
const NEW_PAIR = Object.freeze({ consecutiveWrong: 0, verifyIds: '' });

/**
 * Makes the new code of the pair, to which the count of wrong attempts moves on. Its number comes
 * after all others of the user.
 *
 * @param remainingRequests what the answer says
 */
export function supersede(
  { now, otps }: RequestState,
  input: RequestInput,
  policy: Policy,
  remainingRequests: number,
): Omit<RequestWrites, 'address'> {
  const earlier = newestOtp(otps, input.purpose);
  const { consecutiveWrong, verifyIds } = earlier ?? NEW_PAIR;
  const issued: IssuedOtp = {
    userId: input.userId,
    number: 1 + otps.reduce((highest, { number }) => Math.max(highest, number), 0),
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
    bundleNumber: input.bundleNumber,
    channel: input.channel,
    ending: null,
    isRefunded: false,
    codeDigits: policy.codeDigits,
    attemptsMax: policy.wrongAttempts,
    lockSeconds: policy.lockSeconds,
    keyDigest: input.keyDigest,
    keyExpiresAt: addSeconds(now, policy.keyRetentionSeconds),
    remainingRequests,
  };
  const all = [...otps, issued];
  const done = otps.filter((each) => !isNeeded(each, all, now));
  // Left behind in a row of its own, the count would keep that row for ever.
  const isLeftBehind = earlier !== null && consecutiveWrong > 0 && !done.includes(earlier);
  return {
    issued,
    forgetful: isLeftBehind ? { ...earlier, consecutiveWrong: 0 } : null,
    unneeded: done.filter((each) => !hasLiveKey(each, now)),
    neededForKey: done.filter((each) => hasLiveKey(each, now)),
  };
}

/** Whether a repeat of its request would be answered from it. */
function hasLiveKey({ keyExpiresAt }: Otp, now: Instant): boolean {
  return keyExpiresAt !== null && now < keyExpiresAt;
}
