/** Which limits refuse a request or a verification. Limits in shadow count and refuse nobody. */
import type { Instant } from '../../db/instant.ts';
import { cooldownSeconds } from './numbered-hits.ts';
import type { HitWindow } from './numbered-hits.ts';
import type { AppliedLimit, LimitName, Policy } from '../policy/policy.ts';
import type { LimitState } from './rolling-window.ts';

/** An optional limit with the hits that it has counted. */
export type MeasuredLimit = Readonly<{ limit: AppliedLimit; window: HitWindow }>;

/** A limit without a free point, and the whole seconds until it has one. */
type ExhaustedLimit = Readonly<{ limit: LimitName; seconds: number }>;

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

/** @param clientIp null when no client IP is counted */
export function exhaustedLimits(
  user: LimitState,
  clientIp: LimitState | null,
  hitWindows: readonly MeasuredLimit[],
  now: Instant,
): readonly ExhaustedLimit[] {
  const ofClientIp = clientIp?.cooldownSeconds ?? 0;
  if (user.cooldownSeconds === 0 && ofClientIp === 0 && hitWindows.length === 0) return NO_LIMITS;
  const all: ExhaustedLimit[] = [
    { limit: 'user', seconds: user.cooldownSeconds },
    { limit: 'address', seconds: ofClientIp },
    ...hitWindows.map((one) => ({ limit: one.limit.limit, seconds: secondsLeft(one, now) })),
  ];
  return all.filter(({ seconds }) => seconds > 0);
}

/** Whole seconds until a limit has a free point; 0 when it has one now. */
export function secondsLeft({ limit, window }: MeasuredLimit, now: Instant): number {
  return cooldownSeconds(window, limit.quota, limit.windowSeconds, now);
}

export function splitShadowed(exhausted: readonly ExhaustedLimit[], { shadow }: Policy): Refusal {
  if (exhausted.length === 0) return NO_REFUSAL;
  const refusing = exhausted.filter(({ limit }) => !shadow.has(limit));
  return {
    limitedBy: refusing.map(({ limit }) => limit),
    shadowed: exhausted.filter(({ limit }) => shadow.has(limit)).map(({ limit }) => limit),
    retryAfterSeconds: Math.max(0, ...refusing.map(({ seconds }) => seconds)),
  };
}
