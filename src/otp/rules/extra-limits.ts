/**
 * The limits by numbered hits that count a request or a verification, and which of all limits
 * refuse it. Limits in shadow count and refuse nobody.
 */
import { addressOf } from '../channels/channel.ts';
import type { Recipient } from '../channels/channel.ts';
import { destinationOf } from '../channels/recipients.ts';
import { addSeconds, secondsUntil } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import { HIT_KINDS } from '../../db/tables/limit-hits.ts';
import { cooldownSeconds, listLive } from './numbered-hits.ts';
import type { HitWindow } from './numbered-hits.ts';
import { LIMIT_WINDOW_SECONDS } from '../policy/policy.ts';
import type { AppliedLimit, HitLimitName, LimitName, Policy } from '../policy/policy.ts';
import type { LimitState } from './rolling-window.ts';

const NO_APPLIED_LIMITS: readonly AppliedLimit[] = Object.freeze([]);

/** The limits that count a granted request by numbered hits. */
export function limitsForRequest(policy: Policy, recipient: Recipient): readonly AppliedLimit[] {
  const { userDailyLimit, destinationLimit } = policy;
  if (userDailyLimit === null && destinationLimit === null) return NO_APPLIED_LIMITS;
  const limits: AppliedLimit[] = [];
  if (userDailyLimit !== null) {
    limits.push(appliedLimit('user_daily', recipient.userId, userDailyLimit));
  }
  const destination = limitedDestination(policy, recipient);
  if (destination !== null && destinationLimit !== null) {
    limits.push(appliedLimit('destination', destination, destinationLimit));
  }
  return limits;
}

/** The destination of a message; null when it is not counted. */
export function limitedDestination(policy: Policy, recipient: Recipient): string | null {
  return policy.destinationLimit === null ? null
    : destinationOf(addressOf(recipient), policy.destinationDigits);
}

/** The limits that count a wrong code. */
export function limitsForVerification(
  { wrongCodesLimit, wrongCodesNetLimit }: Policy,
  { clientIp, clientNet48 }: Readonly<Record<'clientIp' | 'clientNet48', string | null>>,
): readonly AppliedLimit[] {
  if (clientIp === null) return NO_APPLIED_LIMITS;
  const limits: AppliedLimit[] = [];
  if (wrongCodesLimit !== null) {
    limits.push(appliedLimit('wrong_codes', clientIp, wrongCodesLimit));
  }
  if (clientNet48 !== null && wrongCodesNetLimit !== null) {
    limits.push(appliedLimit('wrong_codes_net', clientNet48, wrongCodesNetLimit));
  }
  return limits;
}

function appliedLimit(limit: HitLimitName, subject: string, quota: number): AppliedLimit {
  const windowSeconds = LIMIT_WINDOW_SECONDS[limit];
  return { limit, subject, quota, kind: HIT_KINDS[limit], windowSeconds };
}

/** A limit by numbered hits, with the hits that it has counted. */
export type MeasuredLimit = Readonly<{ limit: AppliedLimit; window: HitWindow }>;

type Refusal = Readonly<{
  limitedBy: readonly LimitName[];
  shadowed: readonly LimitName[];
  /** The longest wait among the limits that refuse (docs/api.md, "POST /otp/request"), or 0. */
  retryAfterSeconds: number;
}>;

const NO_LIMITS: readonly never[] = Object.freeze([]);
const NO_REFUSAL: Refusal = Object.freeze({
  limitedBy: NO_LIMITS, shadowed: NO_LIMITS, retryAfterSeconds: 0,
});

/** Measures a limit by numbered hits as measureLimit does the others. */
export function measureHits({ limit: applied, window }: MeasuredLimit, now: Instant): LimitState {
  const { limit, quota, windowSeconds } = applied;
  const { points, oldest } = listLive(window, windowSeconds, now);
  return {
    limit,
    quota,
    remaining: Math.max(0, quota - points),
    resetSeconds: oldest === null ? windowSeconds
      : secondsUntil(now, addSeconds(oldest.usedAt, windowSeconds)),
    cooldownSeconds: cooldownSeconds(window, quota, windowSeconds, now),
  };
}

/** Whole seconds until a limit has a free point; 0 when it has one now. */
export function secondsLeft({ limit, window }: MeasuredLimit, now: Instant): number {
  return cooldownSeconds(window, limit.quota, limit.windowSeconds, now);
}

/** Splits the limits without a free point into those that refuse and those in shadow. */
export function findRefusal(limits: readonly LimitState[], { shadow }: Policy): Refusal {
  if (limits.every(hasFreePoint)) return NO_REFUSAL;
  const exhausted = limits.filter((one) => !hasFreePoint(one));
  const refusing = exhausted.filter(({ limit }) => !shadow.has(limit));
  return {
    limitedBy: refusing.map(({ limit }) => limit),
    shadowed: exhausted.filter(({ limit }) => shadow.has(limit)).map(({ limit }) => limit),
    retryAfterSeconds: Math.max(0, ...refusing.map((one) => one.cooldownSeconds)),
  };
}

function hasFreePoint({ cooldownSeconds: seconds }: LimitState): boolean {
  return seconds === 0;
}
