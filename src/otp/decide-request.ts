/**
 * The rule of POST /otp/request, cases 2 to 7 of the contract, as a pure function: it reads no
 * clock, no environment and no random source.
 */
import { addSeconds } from '../db/instant.ts';
import type { Instant } from '../db/instant.ts';
import type { StoredAnswer } from '../db/idempotency-keys.ts';
import type { Pair } from '../db/otps.ts';
import type { Slot } from '../db/rate-limits.ts';
import { countedAttempts, lockSecondsLeft, NO_ATTEMPTS } from './attempts.ts';
import type { IssueOutcome, Limits } from './outcome.ts';
import type { Policy } from './policy.ts';
import { measureLimit, usePoint } from './window.ts';

/** What the database knows, read while the user, the address and the pair are locked. */
export type RequestState = Readonly<{
  now: Instant;
  /** What is stored under the key, also when its time is over. */
  answer: StoredAnswer | null;
  pair: Pair | null;
  userSlots: readonly Slot[];
  addressSlots: readonly Slot[];
}>;

/** The request, with the code that is to be issued should the rule allow it. */
export type RequestInput = Readonly<{
  userId: string;
  purpose: string;
  keyDigest: Buffer;
  fingerprint: Buffer;
  otpId: Buffer;
  keyId: string;
  digest: Buffer;
}>;

/** The rows to write when a code is issued. */
export type RequestWrites = Readonly<{
  answer: StoredAnswer;
  pair: Pair;
  userSlot: Slot;
  addressSlot: Slot;
}>;

/** How a request ends. Writes are null when nothing changes: every case but the last. */
export type RequestDecision = Readonly<{ outcome: IssueOutcome; writes: RequestWrites | null }>;

/** No verification has changed a new pair. */
const NO_VERIFY_IDS = Buffer.alloc(0);

/** Decides a request. The first case that applies answers (contract, POST /otp/request). */
export function decideRequest(
  state: RequestState,
  input: RequestInput,
  policy: Policy,
): RequestDecision {
  const outcome = answerWithoutIssuing(state, input, policy);
  return outcome === null ? issue(state, input, policy) : { outcome, writes: null };
}

/**
 * The cases that change nothing: a replay, a reused key, a lock, an exhausted limit.
 *
 * @returns null when a code would be issued
 */
export function answerWithoutIssuing(
  state: RequestState,
  input: Pick<RequestInput, 'fingerprint'>,
  policy: Policy,
): IssueOutcome | null {
  const { now, answer, pair } = state;
  const user = measureLimit(state.userSlots, now, policy.userLimit);
  const address = measureLimit(state.addressSlots, now, policy.addressLimit);
  const limits = { user: user.view, address: address.view };
  if (answer !== null && now < answer.expiresAt) {
    return replay(answer, input.fingerprint, limits);
  }
  const lockSeconds = pair === null ? null : lockSecondsLeft(pair, now, policy);
  if (lockSeconds !== null) return { kind: 'locked', retryAfterSeconds: lockSeconds, limits };
  const retryAfterSeconds = Math.max(user.cooldownSeconds, address.cooldownSeconds);
  return retryAfterSeconds > 0 ? { kind: 'limited', retryAfterSeconds, limits } : null;
}

/** A key answers again for what it was used for, and for nothing else. */
function replay(answer: StoredAnswer, fingerprint: Buffer, limits: Limits): IssueOutcome {
  const { otpId, ttlSeconds, remainingRequests } = answer;
  const isSameUse = answer.fingerprint.equals(fingerprint);
  if (!isSameUse || ttlSeconds === null || remainingRequests === null) {
    return { kind: 'key_reused', limits };
  }
  return {
    kind: 'issued',
    otpId: otpId.toString('hex'),
    ttlSeconds,
    remainingRequests,
    replayed: true,
    limits,
  };
}

function issue(state: RequestState, input: RequestInput, policy: Policy): RequestDecision {
  const { now } = state;
  const userSlot = usePoint(state.userSlots, now);
  const addressSlot = usePoint(state.addressSlots, now);
  const user = measureLimit(replaceSlot(state.userSlots, userSlot), now, policy.userLimit);
  const address = measureLimit(
    replaceSlot(state.addressSlots, addressSlot), now, policy.addressLimit);
  const outcome: IssueOutcome = {
    kind: 'issued',
    otpId: input.otpId.toString('hex'),
    ttlSeconds: policy.lifetimeSeconds,
    remainingRequests: user.view.remaining,
    replayed: false,
    limits: { user: user.view, address: address.view },
  };
  const answer: StoredAnswer = {
    keyDigest: input.keyDigest,
    fingerprint: input.fingerprint,
    keyId: null,
    otpId: input.otpId,
    ttlSeconds: outcome.ttlSeconds,
    remainingRequests: outcome.remainingRequests,
    expiresAt: addSeconds(now, policy.keyRetentionSeconds),
  };
  const pair = supersede(state, input, policy);
  return { outcome, writes: { answer, pair, userSlot, addressSlot } };
}

/** The pair with its new code. The count of wrong attempts stays. */
function supersede(state: RequestState, input: RequestInput, policy: Policy): Pair {
  const { now, pair } = state;
  return {
    userId: input.userId,
    purpose: input.purpose,
    otpId: input.otpId,
    keyId: input.keyId,
    digest: input.digest,
    createdAt: now,
    expiresAt: addSeconds(now, policy.lifetimeSeconds),
    redeemedAt: null,
    ...(pair === null ? NO_ATTEMPTS : countedAttempts(pair, now, policy)),
    consecutiveWrong: pair?.consecutiveWrong ?? 0,
    verifyIds: pair?.verifyIds ?? NO_VERIFY_IDS,
  };
}

/** The slots of a subject once one of them was written. */
export function replaceSlot(slots: readonly Slot[], written: Slot): Slot[] {
  return [...slots.filter(({ slot }) => slot !== written.slot), written];
}
