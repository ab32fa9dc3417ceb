/** The rule of POST /otp/request (docs/api.md, "POST /otp/request") as a pure function. */
import type { ChannelName } from '../channels/channel.ts';
import { trustedDevice } from '../crypto/devices.ts';
import type { DeviceClaim } from '../crypto/devices.ts';
import { fingerprintRequest } from '../crypto/secrets.ts';
import { addSeconds, secondsUntil } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { Hex } from '../../db/query.ts';
import type { DeviceRevocation } from '../../db/tables/device-revocations.ts';
import type { StoredRequest } from '../../db/tables/idempotency-keys.ts';
import type { Otp, OtpSummary, PairName } from '../../db/tables/otps.ts';
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
import { measureLimit, toTimedPoints } from '../rules/rolling-window.ts';
import type { LimitState, TimedPoints } from '../rules/rolling-window.ts';

/** To grant a request, the state must be read while the user and all subjects are locked. */
export type RequestState<T extends OtpSummary = Otp> = Readonly<{
  now: Instant;
  /** The request stored under the key, also when the key has expired. */
  stored: StoredRequest | null;
  /** All OTPs of the user, in any order. */
  otps: readonly T[];
  /**
   * The consecutive wrong attempts of swept OTPs, which no OTP has: of the pair, and of all. The
   * second is more than any limit when the account is locked for the client.
   */
  keptWrong: number;
  keptAccountWrong: number;
  /** The limits in slots that apply to the request, as in `slotLimits`. */
  slotWindows: readonly MeasuredSlots[];
  /** The limits by numbered hits that apply to the request. */
  hitWindows: readonly MeasuredLimit[];
}>;

/** A request with its policy, and what follows from both. */
export type PreparedRequest = Omit<OtpRequest, 'key' | 'deviceTokens'> & PairName & Readonly<{
  policy: Policy;
  /** The devices that the client may be; `device` is '' until one of them is found valid. */
  claims: readonly DeviceClaim[];
  keyDigest: Hex;
  /** Of a request with optional members, under each secret, the current one first; or null. */
  fingerprints: readonly Hex[] | null;
  /** Besides that of the user: the limits that count in slots, and those by numbered hits. */
  slotLimits: readonly SlotLimit[];
  /** Those in slots for a trusted device; empty without claims. */
  deviceSlotLimits: readonly SlotLimit[];
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
  /** Whether the code is the fixed one of a test identity, which no message carries. */
  isTest: boolean;
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

/**
 * A request as that of the trusted device that one of its claims names, if that claim is valid.
 *
 * @param revocations those of the user
 */
export function identifyClient(
  request: PreparedRequest,
  revocations: readonly DeviceRevocation[],
  now: Instant,
): PreparedRequest {
  const { claims, policy: { deviceDays }, deviceSlotLimits } = request;
  const device = trustedDevice(claims, revocations, now, deviceDays);
  return device === '' ? request : { ...request, device, slotLimits: deviceSlotLimits };
}

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
  const { policy, device } = request;
  const measured = measureLimits(otps, null, state, request);
  const limits = withoutShadow(measured, policy);
  if (stored !== null && now < stored.keyExpiresAt) return replay(stored, request, limits);
  if (isAccountLocked(countAccountWrong(otps, state.keptAccountWrong), policy, device)) {
    return { kind: 'account_locked', limits };
  }
  const lockSeconds = lockSecondsLeft(findKnownPair(otps, request, now), now);
  if (lockSeconds !== null) return { kind: 'locked', retryAfterSeconds: lockSeconds, limits };
  const { limitedBy, shadowed, retryAfterSeconds } = findRefusal(measured, policy);
  return limitedBy.length === 0 ? null
    : { kind: 'limited', retryAfterSeconds, limits, limitedBy, shadowed };
}

type CountedPoints = Pick<RequestState<OtpSummary>, 'now' | 'slotWindows' | 'hitWindows'>;

/**
 * All limits that this purpose has, that of the client first.
 *
 * @param otps all OTPs of the user
 * @param added the point of the OTP that the request gets; null for none
 */
function measureLimits(
  otps: readonly OtpSummary[],
  added: TimedPoints | null,
  { now, slotWindows, hitWindows }: CountedPoints,
  { policy: { userLimit, devicesLimit }, device }: PreparedRequest,
): readonly LimitState[] {
  const measure = (limit: LimitName, quota: number, counts: (otp: OtpSummary) => boolean) =>
    measureLimit({ limit, quota }, toTimedPoints(otps.filter(counts), added), now);
  const all = [measure(device === '' ? 'user' : 'device', userLimit,
    (otp) => otp.device === device)];
  if (device !== '') all.push(measure('devices', devicesLimit, (otp) => otp.device !== ''));
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
  const measured = measureLimits(otps, { usedAt: now, points: 1 }, counted, request);
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
      : findRefusal(measureLimits(otps, null, state, request), policy).shadowed,
  };
  const { issued, attemptsMoved, obsolete, keyOnly }
    = supersede(state, request, code, remainingRequests);
  return { outcome, writes: { issued, attemptsMoved, obsolete, keyOnly, slotChanges } };
}

/**
 * Creates the new OTP of the pair. Its number is the highest of the user, and the wrong attempts of
 * the pair move to it, also those kept from OTPs that were swept.
 */
function supersede(
  { now, otps, keptWrong }: RequestState,
  request: PreparedRequest,
  { otpId, keyId, digest, batchId, batchNumber, channel }: NewCode,
  remainingRequests: number,
): Omit<RequestWrites, 'slotChanges'> {
  const { userId, purpose, device, policy, keyDigest, apiClient, fingerprints } = request;
  const earlier = findNewestOtp(otps, request);
  const consecutiveWrong = countConsecutiveWrong(otps, request, keptWrong);
  const issued: IssuedOtp = {
    userId,
    number: 1 + otps.reduce((highest, { number }) => Math.max(highest, number), 0),
    purpose,
    device,
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
