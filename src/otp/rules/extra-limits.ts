/** Which limits leave no room for a request, and which of those refuse it. */
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

/** A limit beyond the contract's two, and what it has counted. */
export type MeasuredLimit = Readonly<{ limit: AppliedLimit; window: HitWindow }>;

/** A limit without room, and for how many whole seconds. */
type ExhaustedLimit = Readonly<{ limit: LimitName; seconds: number }>;

/** What a request comes to by its limits. */
type Refusal = Readonly<{
  limitedBy: readonly LimitName[];
  /** Those in shadow. */
  shadowed: readonly LimitName[];
  /** The longest wait of those that refuse (contract, case 6); 0 without any. */
  retryAfterSeconds: number;
}>;

const NO_LIMITS: readonly never[] = Object.freeze([]);
const NO_REFUSAL: Refusal = Object.freeze({
  limitedBy: NO_LIMITS, shadowed: NO_LIMITS, retryAfterSeconds: 0,
});

/**
 * The limits without room for one more code.
 *
 * @param clientIp null when no address is counted
 * @param hitWindows the other limits
 */
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

/** Whole seconds until a limit lets one more through; 0 when it does now. */
export function secondsLeft({ limit, window }: MeasuredLimit, now: Instant): number {
  return cooldownSeconds(window, limit.quota, limit.windowSeconds, now);
}

/** Tells those that refuse from those in shadow. */
export function splitShadowed(exhausted: readonly ExhaustedLimit[], { shadow }: Policy): Refusal {
  if (exhausted.length === 0) return NO_REFUSAL;
  const refusing = exhausted.filter(({ limit }) => !shadow.has(limit));
  return {
    limitedBy: refusing.map(({ limit }) => limit),
    shadowed: exhausted.filter(({ limit }) => shadow.has(limit)).map(({ limit }) => limit),
    retryAfterSeconds: Math.max(0, ...refusing.map(({ seconds }) => seconds)),
  };
}

/** A limit for one subject. */
export type AppliedLimit = LimitSubject & Readonly<{
  limit: ExtraLimitName;
  /** Infinity: it is counted, because purposes that have a limit share the count. */
  quota: number;
  windowSeconds: number;
}>;

const NO_APPLIED_LIMITS: readonly AppliedLimit[] = Object.freeze([]);

/** What one code for a user counts for. */
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

/** What a code for a user goes to, when that is counted; else null. */
export function limitedDestination(policy: Policy, userId: string): string | null {
  return policy.destinationLimit === null ? null : destinationOf(userId, policy.destinationDigits);
}

/** What one wrong code from an address counts for; a null address is not counted. */
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
 * The destination of a user_id.
 *
 * @param digits how many digits of a phone number are looked at
 * @returns `+` and the first digits of a phone number, the domain of an e-mail address in lower
 *   case, or null for any other user_id
 */
export function destinationOf(userId: string, digits: number): string | null {
  if (PHONE_NUMBER.test(userId)) return userId.slice(0, 1 + digits);
  return isPlainAddress(userId) ? domainOf(userId).toLowerCase() : null;
}
