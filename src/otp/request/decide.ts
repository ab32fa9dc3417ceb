/**
 * The rule of POST /otp/request, cases 2 to 7 of the contract, as a pure function: it reads no
 * clock, no environment and no random source.
 */
import type { ChannelName } from '../channels/channel.ts';
import { fingerprintRequest } from '../crypto/secrets.ts';
import { addSeconds, secondsUntil } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { Hex } from '../../db/query.ts';
import type { StoredRequest } from '../../db/tables/idempotency-keys.ts';
import type { Otp, OtpSummary } from '../../db/tables/otps.ts';
import type { Limits, OtpRequest, RequestOutcome } from '../outcomes.ts';
import type { LimitName, Policy } from '../policy/policy.ts';
import { splitShadowed, exhaustedLimits } from '../rules/extra-limits.ts';
import type { AppliedLimit, MeasuredLimit } from '../rules/extra-limits.ts';
import { measureIpLimit, takePoint } from '../rules/ip-limit.ts';
import type { IpLimitChange, IpWindow } from '../rules/ip-limit.ts';
import { isNeeded, findKnownPair, findNewestOtp } from '../rules/lifecycle.ts';
import { countedAttempts, lockSecondsLeft, NO_ATTEMPTS } from '../rules/lockout.ts';
import { measureLimit } from '../rules/rolling-window.ts';
import type { LimitState, TimedPoints } from '../rules/rolling-window.ts';

/** What the database knows. To grant, it must be read while user and address are locked. */
export type RequestState<T extends OtpSummary = Otp> = Readonly<{
  now: Instant;
  /** The request stored under the key, also when the key has expired. */
  stored: StoredRequest | null;
  /** All codes of the user. */
  otps: readonly T[];
  /** Null when no address is counted: then its limit holds nobody back. */
  ipWindow: IpWindow | null;
  /** The other limits that hold for the request, and what each has counted. */
  hitWindows: readonly MeasuredLimit[];
}>;

/** A request with its policy, and what follows from both. */
export type PreparedRequest = Omit<OtpRequest, 'key' | 'apiClient'> & Readonly<{
  policy: Policy;
  keyDigest: Hex;
  /** The limits that count it besides those of the user and the client IP. */
  appliedLimits: readonly AppliedLimit[];
}>;

/** The code that a request gets if it is granted. */
export type NewCode = Readonly<{
  otpId: Hex;
  keyId: string;
  code: string;
  digest: Hex;
  /** The outbox row of its message, and its number there. */
  batchId: Hex;
  batchNumber: number;
  channel: ChannelName;
}>;

/** A code with the key that it was asked for with. */
type IssuedOtp = Otp & StoredRequest;

/** The rows to write when a code is issued. */
export type RequestWrites = Readonly<{
  /** The new code: its row is what a repeat with the key is answered from. */
  issued: IssuedOtp;
  /** The one that it supersedes, when that one must forget its attempts. */
  attemptsMoved: Otp | null;
  /** Codes of the user that are not needed any more, and those of which only the key is. */
  obsolete: readonly Otp[];
  keyOnly: readonly Otp[];
  ipChange: IpLimitChange | null;
}>;

/** How a request ends. Writes are null when nothing changes: every case but the last. */
type RequestDecision = Readonly<{ outcome: RequestOutcome; writes: RequestWrites | null }>;

const NONE: readonly LimitName[] = Object.freeze([]);

/** Decides a request. The first case that applies answers (contract, POST /otp/request). */
export function decideRequest(
  state: RequestState,
  request: PreparedRequest,
  code: NewCode,
): RequestDecision {
  const outcome = replayOrRefuse(state, request);
  return outcome === null ? grant(state, request, code) : { outcome, writes: null };
}

/**
 * The cases that change nothing: a replay, a reused key, a lock, an exhausted limit.
 *
 * @returns null when a code would be issued
 */
export function replayOrRefuse(
  state: RequestState<OtpSummary>,
  request: PreparedRequest,
): RequestOutcome | null {
  const { now, stored } = state;
  const { policy } = request;
  const { limits, exhausted } = measureLimits(state, policy);
  if (stored !== null && now < stored.keyExpiresAt) return replay(stored, request, limits);
  const pair = findKnownPair(state.otps, request.purpose, now);
  const lockSeconds = pair === null ? null : lockSecondsLeft(pair, now, policy);
  if (lockSeconds !== null) return { kind: 'locked', retryAfterSeconds: lockSeconds, limits };
  const { limitedBy, shadowed, retryAfterSeconds } = splitShadowed(exhausted, policy);
  return limitedBy.length === 0 ? null
    : { kind: 'limited', retryAfterSeconds, limits, limitedBy, shadowed };
}

/** What is left of the limits, and which of them leave no room. */
function measureLimits(
  { now, otps, ipWindow, hitWindows }: RequestState<OtpSummary>,
  policy: Policy,
) {
  const ofUser = measureLimit(toTimedPoints(otps), now, policy.userLimit);
  const ofClientIp = measureClientIp(ipWindow, now, policy);
  return {
    limits: { user: ofUser.view, address: ofClientIp?.view ?? null },
    exhausted: exhaustedLimits(ofUser, ofClientIp, hitWindows, now),
  };
}

function measureClientIp(
  ipWindow: IpWindow | null,
  now: Instant,
  policy: Policy,
): LimitState | null {
  return ipWindow === null ? null : measureIpLimit(ipWindow, now, policy.addressLimit);
}

/** A key answers again for what it was used for, and for nothing else. */
function replay(
  stored: StoredRequest,
  request: PreparedRequest,
  limits: Limits,
): RequestOutcome {
  if (!isSameRequest(stored, request)) return { kind: 'key_reused', limits };
  const { otpId, createdAt, expiresAt, remainingRequests } = stored;
  return {
    kind: 'issued',
    otpId,
    ttlSeconds: secondsUntil(createdAt, expiresAt),
    remainingRequests,
    replayed: true,
    limits,
    shadowed: NONE,
  };
}

function isSameRequest(stored: StoredRequest, { userId, purpose }: PreparedRequest): boolean {
  return stored.userId === null ? stored.fingerprint === fingerprintRequest(userId, purpose)
    : stored.userId === userId && stored.purpose === purpose;
}

function grant(state: RequestState, request: PreparedRequest, code: NewCode): RequestDecision {
  const { now } = state;
  const { policy } = request;
  const ipChange = state.ipWindow === null ? null : takePoint(state.ipWindow, now);
  const used = [...toTimedPoints(state.otps), { usedAt: now, points: 1 }];
  const user = measureLimit(used, now, policy.userLimit);
  const clientIpLimit = measureClientIp(ipChange?.after ?? null, now, policy);
  const outcome: RequestOutcome = {
    kind: 'issued',
    otpId: code.otpId,
    ttlSeconds: policy.lifetimeSeconds,
    remainingRequests: user.view.remaining,
    replayed: false,
    limits: { user: user.view, address: clientIpLimit?.view ?? null },
    // A granted request has passed all limits that are not in shadow.
    shadowed: policy.shadow.size === 0 ? NONE
      : splitShadowed(measureLimits(state, policy).exhausted, policy).shadowed,
  };
  const { issued, attemptsMoved, obsolete, keyOnly }
    = supersede(state, request, code, user.view.remaining);
  return { outcome, writes: { issued, attemptsMoved, obsolete, keyOnly, ipChange } };
}

/** Each code has used one point when it was issued; some were given back. */
export function toTimedPoints(otps: readonly OtpSummary[]): TimedPoints[] {
  return otps.map(({ createdAt, isRefunded }) =>
    ({ usedAt: createdAt, points: isRefunded ? 0 : 1 }));
}

/** A pair of which nothing is known. */
const NEW_PAIR = Object.freeze({ consecutiveWrong: 0, verifyIds: '' });

/**
 * Makes the new code of the pair, to which the count of wrong attempts moves on. Its number comes
 * after all others of the user.
 *
 * @param remainingRequests what the answer says
 */
function supersede(
  { now, otps }: RequestState,
  { userId, purpose, policy, keyDigest }: PreparedRequest,
  { otpId, keyId, digest, batchId, batchNumber, channel }: NewCode,
  remainingRequests: number,
): Omit<RequestWrites, 'ipChange'> {
  const earlier = findNewestOtp(otps, purpose);
  const { consecutiveWrong, verifyIds } = earlier ?? NEW_PAIR;
  const issued: IssuedOtp = {
    userId,
    number: 1 + otps.reduce((highest, { number }) => Math.max(highest, number), 0),
    purpose,
    otpId,
    keyId,
    digest,
    createdAt: now,
    expiresAt: addSeconds(now, policy.lifetimeSeconds),
    redeemedAt: null,
    ...(earlier === null ? NO_ATTEMPTS : countedAttempts(earlier, now)),
    consecutiveWrong,
    verifyIds,
    batchId,
    batchNumber,
    channel,
    closeReason: null,
    isRefunded: false,
    codeDigits: policy.codeDigits,
    attemptsMax: policy.wrongAttempts,
    lockSeconds: policy.lockSeconds,
    keyDigest,
    keyExpiresAt: addSeconds(now, policy.keyRetentionSeconds),
    remainingRequests,
  };
  const all = [...otps, issued];
  const done = otps.filter((each) => !isNeeded(each, all, now));
  // Left behind in a row of its own, the count would keep that row for ever.
  const isLeftBehind = earlier !== null && consecutiveWrong > 0 && !done.includes(earlier);
  return {
    issued,
    attemptsMoved: isLeftBehind ? { ...earlier, consecutiveWrong: 0 } : null,
    obsolete: done.filter((each) => !hasLiveKey(each, now)),
    keyOnly: done.filter((each) => hasLiveKey(each, now)),
  };
}

/** Whether a repeat of its request would be answered from it. */
function hasLiveKey({ keyExpiresAt }: Otp, now: Instant): boolean {
  return keyExpiresAt !== null && now < keyExpiresAt;
}
