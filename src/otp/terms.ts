/** The numbers that a code was issued under, which hold for it when the policy changes. */
import type { Otp } from '../db/otps.ts';
import type { Policy } from './policy.ts';

/** Those that its row keeps, beside the time when it expires. */
export type Terms = Pick<Policy, 'codeDigits' | 'wrongAttempts' | 'lockSeconds'>;

/**
 * The terms of a pair: those of its newest code.
 *
 * @param pair null: no code is known, so the policy in force holds
 * @param policy the one in force, for codes issued before their terms were kept
 */
export function termsOf(pair: Otp | null, policy: Policy): Terms {
  return {
    codeDigits: pair?.codeDigits ?? policy.codeDigits,
    wrongAttempts: pair?.attemptsMax ?? policy.wrongAttempts,
    lockSeconds: pair?.lockSeconds ?? policy.lockSeconds,
  };
}
