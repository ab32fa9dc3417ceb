/**
 * The rule of POST /otp/verify as a pure function: it reads no clock, no environment and no
 * random source. The comparison of the code is asked for only when an attempt may be made.
 */
import { timingSafeEqual } from 'node:crypto';
import { pushVerifyId } from './commit-probe.ts';
import { fingerprintDigest } from '../crypto/secrets.ts';
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { Hex } from '../../db/query.ts';
import type { StoredVerification } from '../../db/tables/idempotency-keys.ts';
import type { Otp } from '../../db/tables/otps.ts';
import type { VerifyOutcome } from '../outcomes.ts';
import type { Policy } from '../policy/policy.ts';
import { secondsLeft } from '../rules/extra-limits.ts';
import type { MeasuredLimit } from '../rules/extra-limits.ts';
import { countedAttempts, lockSecondsLeft, NO_ATTEMPTS } from '../rules/lockout.ts';

/** What the database knows, read while the pair is locked. */
export type VerifyState = Readonly<{
  now: Instant;
  /** What is stored under the key, also when its time is over; null without a key. */
  answer: StoredVerification | null;
  /** The newest code of the pair. */
  pair: Otp | null;
  /** Wrong codes from the address: none or one. */
  hitWindows: readonly MeasuredLimit[];
}>;

/** The attempt. */
export type VerifyAttempt = Readonly<{
  /** The length of the code that was sent. */
  digits: number;
  /**
   * The keyed digest of the code that was sent, under a secret and for an otp_id (32 bytes); null
   * when that secret is not known any more.
   */
  digestFor: (keyId: string, otpId: Hex) => Hex | null;
  keyDigest: Hex | null;
  /** Names it, and those of its transaction, in the row that it changes: 8 random bytes. */
  verifyId: Hex;
}>;

/** The rows to write; the answer only for a right code that came with a key. */
export type VerifyWrites = Readonly<{
  pair: Otp;
  answer: StoredVerification | null;
  /** Whether the code was wrong, which counts for the address too. */
  isWrong: boolean;
}>;

/** How an attempt ends. Writes are null when nothing changes. */
type VerifyDecision = Readonly<{
  outcome: VerifyOutcome;
  writes: VerifyWrites | null;
  /** The limit of wrong codes of the address would have refused it, were it not in shadow. */
  isShadowed?: true;
}>;

/** Decides an attempt. The first case that applies answers (contract, POST /otp/verify). */
export function decideVerify(
  state: VerifyState,
  attempt: VerifyAttempt,
  policy: Policy,
): VerifyDecision {
  const { now, answer, pair, hitWindows } = state;
  const { codeDigits } = pair ?? policy;
  const stored = answer !== null && now < answer.keyExpiresAt ? replay(answer, attempt) : null;
  // What has won was well-formed then, whatever codes of the pair have come since.
  if (stored?.kind === 'verified') return refuse(stored);
  if (attempt.digits !== codeDigits) return refuse({ kind: 'malformed', digits: codeDigits });
  if (stored !== null) return refuse(stored);
  const spent = hitWindows.find((one) => secondsLeft(one, now) > 0);
  if (spent === undefined) return decideAttempt(state, attempt, policy);
  if (policy.shadow.has(spent.limit.limit)) {
    return { ...decideAttempt(state, attempt, policy), isShadowed: true };
  }
  return refuse({ kind: 'limited', retryAfterSeconds: secondsLeft(spent, now) });
}

function decideAttempt(
  { now, pair }: VerifyState,
  attempt: VerifyAttempt,
  policy: Policy,
): VerifyDecision {
  if (pair === null) return refuse({ kind: 'not_found' });
  const lockSeconds = lockSecondsLeft(pair, now, policy);
  if (lockSeconds !== null) {
    return refuse({ kind: 'locked', retryAfterSeconds: lockSeconds, begins: false });
  }
  if (pair.redeemedAt !== null) return refuse({ kind: 'used' });
  if (pair.expiresAt <= now) return refuse({ kind: 'expired' });
  const digest = attempt.digestFor(pair.keyId, pair.otpId);
  // No digest: the code died with its lock, or its secret is gone. It can never be right.
  if (pair.digest === null || digest === null) return refuse({ kind: 'expired' });
  return areSame(pair.digest, digest)
    ? redeem(pair, pair.digest, now, attempt, policy)
    : countWrong(pair, now, attempt, policy);
}

/** In a time that does not tell how much of them is the same. */
function areSame(one: Hex, other: Hex): boolean {
  return timingSafeEqual(Buffer.from(one), Buffer.from(other));
}

function refuse(outcome: VerifyOutcome): VerifyDecision {
  return { outcome, writes: null };
}

/** A key answers again for the very code that it won with, and for nothing else. */
function replay(answer: StoredVerification, attempt: VerifyAttempt): VerifyOutcome {
  const digest = attempt.digestFor(answer.keyId, answer.otpId);
  const isSameUse = digest !== null
    && areSame(answer.fingerprint, fingerprintDigest(digest));
  return isSameUse ? { kind: 'verified', replayed: true } : { kind: 'key_reused' };
}

function redeem(
  pair: Otp,
  digest: Hex,
  now: Instant,
  attempt: VerifyAttempt,
  policy: Policy,
): VerifyDecision {
  const { keyDigest, verifyId } = attempt;
  const answer = keyDigest === null ? null : {
    keyDigest,
    fingerprint: fingerprintDigest(digest),
    keyId: pair.keyId,
    otpId: pair.otpId,
    keyExpiresAt: addSeconds(now, policy.keyRetentionSeconds),
  };
  const redeemed = { ...pair, ...NO_ATTEMPTS, digest: null, redeemedAt: now, consecutiveWrong: 0 };
  return {
    outcome: { kind: 'verified', replayed: false },
    writes: { pair: { ...redeemed, verifyIds: pushVerifyId(pair.verifyIds, verifyId) }, answer,
      isWrong: false },
  };
}

function countWrong(
  pair: Otp,
  now: Instant,
  { verifyId }: VerifyAttempt,
  policy: Policy,
): VerifyDecision {
  const wrongAttempts = countedAttempts(pair, now).wrongAttempts + 1;
  const consecutiveWrong = pair.consecutiveWrong + 1;
  const verifyIds = pushVerifyId(pair.verifyIds, verifyId);
  const counted = { ...pair, wrongAttempts, consecutiveWrong, lastWrongAt: now, verifyIds };
  const attemptsRemaining = Math.min(
    pair.attemptsMax - wrongAttempts,
    policy.wrongAttemptsUntilUnlock - consecutiveWrong,
  );
  if (attemptsRemaining > 0) {
    const writes = { pair: { ...counted, lockedUntil: null }, answer: null, isWrong: true };
    return { outcome: { kind: 'wrong', attemptsRemaining }, writes };
  }
  const lockedUntil = addSeconds(now, pair.lockSeconds);
  return {
    outcome: { kind: 'locked', retryAfterSeconds: pair.lockSeconds, begins: true },
    writes: { pair: { ...counted, lockedUntil, digest: null }, answer: null, isWrong: true },
  };
}
