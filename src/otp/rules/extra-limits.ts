/**
 * Which optional limits apply to a request or a verification, and which limits refuse it. Limits in
 * shadow count and refuse nobody.
 */
import { domainOf, isPlainAddress } from '../channels/email-settings.ts';
import { PHONE_NUMBER } from '../channels/sms.ts';
import type { Instant } from '../../db/instant.ts';
import { HIT_KINDS } from '../../db/tables/limit-hits.ts';
import type { LimitSubject } from '../../db/tables/limit-hits.ts';
import { cooldownSeconds } from './numbered-hits.ts';
import type { HitWindow } from './numbered-hits.ts';
import { EXTRA_WINDOW_SECONDS } from '../policy/policy.ts';
import type { ExtraLimitName, LimitName, Policy } from '../policy/policy.ts';
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

/** A limit and the subject that it counts: a user, a destination or a client IP. */
export type AppliedLimit = LimitSubject & Readonly<{
  limit: ExtraLimitName;
  /** Infinity when only other purposes have this limit, because all purposes share the count. */
  quota: number;
  windowSeconds: number;
}>;

const NO_APPLIED_LIMITS: readonly AppliedLimit[] = Object.freeze([]);

/** The limits that count a granted request, besides those of the user and the client IP. */
export function limitsForRequest(policy: Policy, userId: string): readonly AppliedLimit[] {
  const { userDailyLimit, destinationLimit } = policy;
  if (userDailyLimit === null && destinationLimit === null) return NO_APPLIED_LIMITS;
  const limits: AppliedLimit[] = [];
  if (userDailyLimit !== null) limits.push(appliedLimit('user_daily', userId, userDailyLimit));
  const destination = limitedDestination(policy, userId);
  if (destination !== null && destinationLimit !== null) {
    limits.push(appliedLimit('destination', destination, destinationLimit));
  }
  return limits;
}

/** The destination of a user_id; null when it is not counted. */
export function limitedDestination(policy: Policy, userId: string): string | null {
  return policy.destinationLimit === null ? null : destinationOf(userId, policy.destinationDigits);
}

/** The limits that count a wrong code. */
export function limitsForVerification(
  policy: Policy,
  clientIp: string | null,
): readonly AppliedLimit[] {
  const { wrongCodesLimit } = policy;
  if (wrongCodesLimit === null || clientIp === null) return NO_APPLIED_LIMITS;
  return [appliedLimit('wrong_codes', clientIp, wrongCodesLimit)];
}

function appliedLimit(limit: ExtraLimitName, subject: string, quota: number): AppliedLimit {
  const windowSeconds = EXTRA_WINDOW_SECONDS[limit];
  return { limit, subject, quota, kind: HIT_KINDS[limit], windowSeconds };
}

/**
 * Returns `+` and the first digits of a phone number, the domain of an email address in lower case,
 * or null for any other user_id.
 *
 * @param digits how many digits of a phone number name its destination
 */
export function destinationOf(userId: string, digits: number): string | null {
  if (PHONE_NUMBER.test(userId)) return userId.slice(0, 1 + digits);
  return isPlainAddress(userId) ? domainOf(userId).toLowerCase() : null;
}
