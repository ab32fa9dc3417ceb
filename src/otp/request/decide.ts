/** The rule of POST /otp/request (docs/api.md, "POST /otp/request") as a pure function. */
import type { ChannelName } from '../channels/channel.ts';
import { fingerprintRequest } from '../crypto/secrets.ts';
import { addSeconds, secondsUntil } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { Hex } from '../../db/query.ts';
import type { StoredRequest } from '../../db/tables/idempotency-keys.ts';
import type { Otp, OtpSummary } from '../../db/tables/otps.ts';
import type { Limits, OtpRequest, RequestOutcome } from '../outcomes.ts';
import type { AppliedLimit, LimitName, Policy } from '../policy/policy.ts';
import { findRefusal, measureHits } from '../rules/extra-limits.ts';
import type { MeasuredLimit } from '../rules/extra-limits.ts';
import { measureSlots, takePoint } from '../rules/ip-limit.ts';
import type { IpLimitChange, MeasuredSlots, SlotLimit } from '../rules/ip-limit.ts';
import {
  countAccountWrong, countConsecutiveWrong, findKnownPair, findNewestOtp, isNeeded,
} from '../rules/lifecycle.ts';
import {
  countedAttempts, isAccountLocked, lockSecondsLeft, NO_ATTEMPTS,
} from '../rules/lockout.ts';
import { addHit } from '../rules/numbered-hits.ts';
import { measureLimit } from '../rules/rolling-window.ts';
import type { LimitState, TimedPoints } from '../rules/rolling-window.ts';

/** To grant a request, the state must be read while the user and all subjects are locked. */
export type RequestState<T extends OtpSummary = Otp> = Readonly<{
  now: Instant;
  /** The request stored under the key, also when the key has expired. */
  stored: StoredRequest | null;
  /** All OTPs of the user, in any order. */
  otps: readonly T[];
  /** The consecutive wrong attempts of swept OTPs, which no OTP has: of the pair, and of all. */
  keptWrong: number;
  keptAccountWrong: number;
  /** The limits in slots that apply to the request, as in `slotLimits`. */
  slotWindows: readonly MeasuredSlots[];
  /** The limits by numbered hits that apply to the request. */
  hitWindows: readonly MeasuredLimit[];
}>;

/** A request with its policy, and what follows from both. */
export type PreparedRequest = Omit<OtpRequest, 'key'> & Readonly<{
  policy: Policy;
  keyDigest: Hex;
  /** Of a request with optional members, under each secret, the current one first; or null. */
  fingerprints: readonly Hex[] | null;
  /** Besides that of the user: the limits that count in slots, and those by numbered hits. */
  slotLimits: readonly SlotLimit[];
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

/** An OTP with its idempotency key. */
type IssuedOtp = Otp & StoredRequest;

export type RequestWrites = Readonly<{
  /** The new OTP. A repeat with its key is answered from its row. */
  issued: IssuedOtp;
  /** The superseded OTP, if its count of wrong attempts has moved to the new OTP. */
  attemptsMoved: Otp | null;
  /** OTPs of the user that are not needed any more, and those needed only for their key. */
  obsolete: readonly Otp[];
  keyOnly: readonly Otp[];
  /** One for each of the request's limits in slots. */
  slotChanges: readonly IpLimitChange[];
}>;

/** Writes are null when the request gets no new code. */
type RequestDecision = Readonly<{ outcome: RequestOutcome; writes: RequestWrites | null }>;

const NONE: readonly LimitName[] = Object.freeze([]);

/** The first case that applies decides (docs/api.md, "POST /otp/request"). */
export function decideRequest(
  state: RequestState,
  request: PreparedRequest,
  code: NewCode,
): RequestDecision {
  const outcome = replayOrRefuse(state, request);
  return outcome === null ? grant(state, request, code) : { outcome, writes: null };
}

/**
 * The cases that change nothing: a replay, a reused key, a locked account, a lock, an exhausted
 * limit.
 *
 * @returns null when the request is granted
 */
export function replayOrRefuse(
  state: RequestState<OtpSummary>,
  request: PreparedRequest,
): RequestOutcome | null {
  const { now, stored, otps } = state;
  const { policy } = request;
  const measured = measureLimits(toTimedPoints(otps), state, policy);
  const limits = withoutShadow(measured, policy);
  if (stored !== null && now < stored.keyExpiresAt) return replay(stored, request, limits);
  if (isAccountLocked(countAccountWrong(otps, state.keptAccountWrong), policy)) {
    return { kind: 'account_locked', limits };
  }
  const lockSeconds = lockSecondsLeft(findKnownPair(otps, request.purpose, now), now);
  if (lockSeconds !== null) return { kind: 'locked', retryAfterSeconds: lockSeconds, limits };
  const { limitedBy, shadowed, retryAfterSeconds } = findRefusal(measured, policy);
  return limitedBy.length === 0 ? null
    : { kind: 'limited', retryAfterSeconds, limits, limitedBy, shadowed };
}

type CountedPoints = Pick<RequestState<OtpSummary>, 'now' | 'slotWindows' | 'hitWindows'>;

/** All limits that this purpose has, that of the user first. */
function measureLimits(
  ofUser: readonly TimedPoints[],
  { now, slotWindows, hitWindows }: CountedPoints,
  { userLimit }: Policy,
): readonly LimitState[] {
  const all = [measureLimit({ limit: 'user', quota: userLimit }, ofUser, now)];
  for (const { limit, window } of slotWindows) {
    if (limit.quota !== Infinity) all.push(measureSlots(limit, window, now));
  }
  for (const one of hitWindows) {
    if (one.limit.quota !== Infinity) all.push(measureHits(one, now));
  }
  return all;
}

function withoutShadow(limits: readonly LimitState[], { shadow }: Policy): Limits {
  return shadow.size === 0 ? limits : limits.filter(({ limit }) => !shadow.has(limit));
}

/** A key replays only for the user, the purpose and the options that it was used for. */
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

function isSameRequest(
  stored: StoredRequest,
  { userId, purpose, fingerprints }: PreparedRequest,
): boolean {
  const { fingerprint = null } = stored;
  if (fingerprint !== null) {
    return (fingerprints ?? [fingerprintRequest(userId, purpose)]).includes(fingerprint);
  }
  return fingerprints === null && stored.userId === userId && stored.purpose === purpose;
}

function grant(state: RequestState, request: PreparedRequest, code: NewCode): RequestDecision {
  const { now, otps, slotWindows, hitWindows } = state;
  const { policy } = request;
  const slotChanges = slotWindows.map(({ window }) => takePoint(window, now));
  const counted: CountedPoints = {
    now,
    slotWindows: slotWindows.map(({ limit }, at) => ({ limit, window: slotChanges[at]!.after })),
    hitWindows: hitWindows.map(({ limit, window }) => ({ limit, window: addHit(window, now) })),
  };
  const before = toTimedPoints(otps);
  const measured = measureLimits([...before, { usedAt: now, points: 1 }], counted, policy);
  const remainingRequests = measured[0]!.remaining;
  const outcome: RequestOutcome = {
    kind: 'issued',
    otpId: code.otpId,
    ttlSeconds: policy.lifetimeSeconds,
    remainingRequests,
    replayed: false,
    limits: withoutShadow(measured, policy),
    // A granted request has passed all limits that are not in shadow.
    shadowed: policy.shadow.size === 0 ? NONE
      : findRefusal(measureLimits(before, state, policy), policy).shadowed,
  };
  const { issued, attemptsMoved, obsolete, keyOnly }
    = supersede(state, request, code, remainingRequests);
  return { outcome, writes: { issued, attemptsMoved, obsolete, keyOnly, slotChanges } };
}

/** Each OTP took one point when it was issued, unless the point was refunded. */
export function toTimedPoints(otps: readonly OtpSummary[]): TimedPoints[] {
  return otps.map(({ createdAt, isRefunded }) =>
    ({ usedAt: createdAt, points: isRefunded ? 0 : 1 }));
}

/**
 * Creates the new OTP of the pair. Its number is the highest of the user, and the wrong attempts of
 * the pair move to it, also those kept from OTPs that were swept.
 */
function supersede(
  { now, otps, keptWrong }: RequestState,
  { userId, purpose, policy, keyDigest, apiClient, fingerprints }: PreparedRequest,
  { otpId, keyId, digest, batchId, batchNumber, channel }: NewCode,
  remainingRequests: number,
): Omit<RequestWrites, 'slotChanges'> {
  const earlier = findNewestOtp(otps, purpose);
  const consecutiveWrong = countConsecutiveWrong(otps, purpose, keptWrong);
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
    verifyIds: earlier?.verifyIds ?? '',
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
    apiClient,
    fingerprint: fingerprints?.[0] ?? null,
  };
  const all = [...otps, issued];
  // The count of another pair is kept with its row until the sweep moves it.
  const done = otps.filter((each) => !isNeeded(each, all, now)
    && (each.consecutiveWrong === 0 || each === earlier));
  // The count must not stay behind, where the sweep would move it.
  const isLeftBehind = earlier !== null && consecutiveWrong > 0 && !done.includes(earlier);
  return {
    issued,
    attemptsMoved: isLeftBehind ? { ...earlier, consecutiveWrong: 0 } : null,
    obsolete: done.filter((each) => !hasLiveKey(each, now)),
    keyOnly: done.filter((each) => hasLiveKey(each, now)),
  };
}

/** Whether a repeat with its key is answered from it. */
function hasLiveKey({ keyExpiresAt }: Otp, now: Instant): boolean {
  return keyExpiresAt !== null && now < keyExpiresAt;
}
