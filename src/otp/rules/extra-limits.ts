/** Which limits refuse a request or a verification. Limits in shadow count and refuse nobody. */
import { addSeconds, secondsUntil } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import { cooldownSeconds, listLive } from './numbered-hits.ts';
import type { HitWindow } from './numbered-hits.ts';
import type { AppliedLimit, LimitName, Policy } from '../policy/policy.ts';
import type { LimitState } from './rolling-window.ts';

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
