/**
 * The rule of POST /otp/verify as a pure function. The code is compared only when an attempt is
 * allowed. A verification may name the OTP that its code is of: it is then bound to that OTP.
 */
import { timingSafeEqual } from 'node:crypto';
import { pushVerifyId } from './commit-probe.ts';
import type { DeviceClaim } from '../crypto/devices.ts';
import { fingerprintDigest } from '../crypto/secrets.ts';
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { Hex } from '../../db/query.ts';
import type { StoredVerification } from '../../db/tables/idempotency-keys.ts';
import type { Otp, PairName } from '../../db/tables/otps.ts';
import type { AccountLock } from '../../db/tables/wrong-counts.ts';
import type { VerifyOutcome } from '../outcomes.ts';
import { REPLAY_SECONDS } from '../policy/policy.ts';
import type { AppliedLimit, LimitName, Policy } from '../policy/policy.ts';
import { secondsLeft } from '../rules/extra-limits.ts';
import type { MeasuredLimit } from '../rules/extra-limits.ts';
import { isOfPair } from '../rules/lifecycle.ts';
import {
  accountLockAt, addWrongAttempt, isAccountLocked, lockSecondsLeft, NO_ATTEMPTS,
} from '../rules/lockout.ts';
import { isPointLive } from '../rules/rolling-window.ts';

/** Read while the user is locked. */
export type VerifyState = Readonly<{
  now: Instant;
  /** The verification stored under the key, also when the key has expired; null without a key. */
  stored: StoredVerification | null;
  /** All OTPs of the user, in any order. */
  otps: readonly Otp[];
  /** The trusted device that the client is, or ''. */
  device: Hex;
  /** The newest OTP of the pair; null when none is known. */
  pair: Otp | null;
  /** The consecutive wrong attempts of the user, of all pairs. */
  accountWrong: number;
  /** The limits of wrong codes of the client IP and of its /48. */
  hitWindows: readonly MeasuredLimit[];
}>;

/** A verification with its policy, and what follows from both. */
export type PreparedVerification = Omit<PairName, 'device'> & Readonly<{
  policy: Policy;
  /** The devices that the client may be. */
  claims: readonly DeviceClaim[];
  /** The length of the submitted code. */
  digits: number;
  /** The OTP that the code is to be of; null for the newest of the pair. */
  otpId: Hex | null;
  /**
   * The keyed digest of the code under a secret and for an otp_id (32 bytes); null when the secret
   * is no longer configured.
   */
  digestFor: (keyId: string, otpId: Hex) => Hex | null;
  /** The token of the client that has redeemed an OTP; undefined where no device is trusted. */
  tokenFor: (otp: Otp, redeemedAt: Instant) => string | undefined;
  /** The limits that count a wrong code. */
  appliedLimits: readonly AppliedLimit[];
  keyDigest: Hex | null;
  /** Stored in the rows that its transaction changes, for the commit probe: 8 random bytes. */
  verifyId: Hex;
}>;

export type VerifyWrites = Readonly<{
  /** Null when the pair stays as it is. */
  pair: Otp | null;
  /** The new response under the key, or the old one with the time at which it was erased. */
  stored: StoredVerification | null;
  /** Whether the client IP has sent a wrong code. */
  isWrong: boolean;
  /** The lock of the account that the wrong code begins, or null. */
  accountLock: AccountLock | null;
}>;

/** Writes are null when nothing changes. */
type VerifyDecision = Readonly<{
  outcome: VerifyOutcome;
  writes: VerifyWrites | null;
  /** The exhausted limits in shadow, if there are any. */
  shadowed?: readonly LimitName[];
}>;

/** The first case that applies decides (docs/api.md, "POST /otp/verify"). */
export function decideVerify(
  state: VerifyState,
  verification: PreparedVerification,
): VerifyDecision {
  const { now, stored, pair, hitWindows } = state;
  const { policy, digits } = verification;
  const { codeDigits } = pair ?? policy;
  const isMalformed = digits !== codeDigits;
  // A code of an earlier policy may have had another length; only then is it compared.
  const usesKey = stored !== null && isReplayable(stored, now)
    && !(isMalformed && pair?.otpId === stored.otpId);
  if (usesKey) return useKey(stored, state, verification);
  if (isMalformed) return refuse({ kind: 'malformed', digits: codeDigits });
  const exhausted = hitWindows.filter((one) => secondsLeft(one, now) > 0);
  if (exhausted.length === 0 || state.device !== '' || namesOpenOtp(state, verification)) {
    return decideAttempt(state, verification);
  }
  return limit(exhausted, state, verification);
}

/**
 * Whether a verification names the open OTP of its pair. No limit of the client IP refuses it, nor
 * a trusted device, so that strangers who share the address cannot keep out who holds the OTP.
 */
function namesOpenOtp({ now, pair }: VerifyState, { otpId }: PreparedVerification): boolean {
  return pair !== null && pair.otpId === otpId && pair.digest !== null && now < pair.expiresAt;
}

/** Refuses, or decides the attempt when all exhausted limits are in shadow. */
function limit(
  exhausted: readonly MeasuredLimit[],
  state: VerifyState,
  verification: PreparedVerification,
): VerifyDecision {
  const { shadow } = verification.policy;
  const nameOf = (one: MeasuredLimit): LimitName => one.limit.limit;
  const refusing = exhausted.filter((one) => !shadow.has(nameOf(one)));
  const shadowed = exhausted.map(nameOf).filter((name) => shadow.has(name));
  if (refusing.length === 0) return { ...decideAttempt(state, verification), shadowed };
  const retryAfterSeconds = Math.max(...refusing.map((one) => secondsLeft(one, state.now)));
  const limitedBy = refusing.map(nameOf);
  return { outcome: { kind: 'limited', retryAfterSeconds, limitedBy }, writes: null, shadowed };
}

function decideAttempt(state: VerifyState, verification: PreparedVerification): VerifyDecision {
  const { now, pair, accountWrong, device } = state;
  const { policy, otpId } = verification;
  if (isAccountLocked(accountWrong, policy, device)) {
    return refuse({ kind: 'account_locked', begins: false });
  }
  const lockSeconds = lockSecondsLeft(pair, now);
  if (lockSeconds !== null) {
    return refuse({ kind: 'locked', retryAfterSeconds: lockSeconds, begins: false });
  }
  if (pair === null) return refuse({ kind: 'not_found' });
  if (otpId !== null && otpId !== pair.otpId) return refuse(findEarlier(state, verification));
  if (pair.redeemedAt !== null) return refuse({ kind: 'used' });
  if (pair.expiresAt <= now) return refuse({ kind: 'expired' });
  const digest = verification.digestFor(pair.keyId, pair.otpId);
  // A lock has closed the OTP, or its secret is no longer configured.
  if (pair.digest === null || digest === null) return refuse({ kind: 'expired' });
  if (areSame(pair.digest, digest)) {
    return redeem(pair, pair.digest, now, verification);
  }
  return otpId !== null && isEarlierCode(pair, state, verification)
    ? refuse({ kind: 'superseded' })
    : countWrong(pair, state, verification);
}

/** What became of an earlier OTP of the pair; not found if it was issued too long ago. */
function findEarlier(
  { now, otps, device }: VerifyState,
  { purpose, otpId }: PreparedVerification,
): VerifyOutcome {
  const earlier = otps.find((otp) => otp.otpId === otpId && isOfPair(otp, { purpose, device }));
  if (earlier === undefined) return { kind: 'not_found' };
  if (earlier.redeemedAt !== null) return { kind: 'used' };
  return { kind: isPointLive(earlier.createdAt, now) ? 'superseded' : 'not_found' };
}

/** More messages than anybody compares; bounds the digests that one attempt costs. */
const EARLIER_CODES_MAX = 16;

/**
 * Whether the code is that of an OTP that the newest has superseded, within its lifetime: the user
 * typed what an earlier message says. Such an attempt is not counted: all that a guess can learn in
 * this way is the value of a code that can never be redeemed, and codes are independent of each
 * other. A redeemed or closed OTP has no digest, so its code counts as wrong.
 */
function isEarlierCode(
  pair: Otp,
  { now, otps }: VerifyState,
  { digestFor }: PreparedVerification,
): boolean {
  const isSuperseded = (otp: Otp): boolean =>
    isOfPair(otp, pair) && otp !== pair && otp.digest !== null && now < otp.expiresAt;
  return otps.filter(isSuperseded).sort((a, b) => b.number - a.number).slice(0, EARLIER_CODES_MAX)
    .some(({ digest, keyId, otpId }) => {
      const typed = digestFor(keyId, otpId);
      return digest !== null && typed !== null && areSame(digest, typed);
    });
}

/** Takes the same time however many digits are equal. */
function areSame(one: Hex, other: Hex): boolean {
  return timingSafeEqual(Buffer.from(one), Buffer.from(other));
}

function refuse(outcome: VerifyOutcome): VerifyDecision {
  return { outcome, writes: null };
}

/** A later end than any key can have was stored before the clock was set back. */
function isReplayable({ keyExpiresAt }: StoredVerification, now: Instant): boolean {
  return now < keyExpiresAt && keyExpiresAt <= addSeconds(now, REPLAY_SECONDS);
}

/**
 * Replays the success for the code that was verified with the key. Any other use erases it and
 * counts as a wrong code: otherwise a client that knows the key could try codes uncounted.
 */
function useKey(
  stored: StoredVerification,
  { now, otps }: VerifyState,
  { digestFor, tokenFor }: PreparedVerification,
): VerifyDecision {
  const digest = digestFor(stored.keyId, stored.otpId);
  if (digest !== null && areSame(stored.fingerprint, fingerprintDigest(digest))) {
    const otp = otps.find(({ otpId }) => otpId === stored.otpId);
    const redeemedAt = otp?.redeemedAt ?? null;
    const deviceToken = otp === undefined || redeemedAt === null ? undefined
      : tokenFor(otp, redeemedAt);
    return refuse(verified(true, deviceToken));
  }
  const erased = { ...stored, keyExpiresAt: now };
  return {
    outcome: { kind: 'key_reused' },
    writes: { pair: null, stored: erased, isWrong: true, accountLock: null },
  };
}

function verified(replayed: boolean, deviceToken: string | undefined): VerifyOutcome {
  return deviceToken === undefined ? { kind: 'verified', replayed }
    : { kind: 'verified', replayed, deviceToken };
}

function redeem(
  pair: Otp,
  digest: Hex,
  now: Instant,
  { keyDigest, verifyId, tokenFor }: PreparedVerification,
): VerifyDecision {
  const stored = keyDigest === null ? null : {
    keyDigest,
    fingerprint: fingerprintDigest(digest),
    keyId: pair.keyId,
    otpId: pair.otpId,
    keyExpiresAt: addSeconds(now, REPLAY_SECONDS),
  };
  const redeemed = { ...pair, ...NO_ATTEMPTS, digest: null, redeemedAt: now, consecutiveWrong: 0 };
  return {
    outcome: verified(false, tokenFor(pair, now)),
    writes: { pair: { ...redeemed, verifyIds: pushVerifyId(pair.verifyIds, verifyId) }, stored,
      isWrong: false, accountLock: null },
  };
}

function countWrong(
  pair: Otp,
  { now, accountWrong }: VerifyState,
  { policy, verifyId }: PreparedVerification,
): VerifyDecision {
  const { attemptsRemaining, locksAccount, pair: counted }
    = addWrongAttempt(pair, accountWrong, now, policy);
  const verifyIds = pushVerifyId(pair.verifyIds, verifyId);
  const accountLock = locksAccount ? accountLockAt(accountWrong + 1, policy) : null;
  const writes = { pair: { ...counted, verifyIds }, stored: null, isWrong: true, accountLock };
  if (locksAccount) return { outcome: { kind: 'account_locked', begins: true }, writes };
  return {
    outcome: attemptsRemaining > 0 ? { kind: 'wrong', attemptsRemaining }
      : { kind: 'locked', retryAfterSeconds: pair.lockSeconds, begins: true },
    writes,
  };
}
