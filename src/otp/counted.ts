/** What is counted, beyond the contract's two limits, for a request and for an attempt. */
import { USE_KINDS } from '../db/limit-uses.ts';
import type { UseSubject } from '../db/limit-uses.ts';
import { destinationOf } from './destination.ts';
import type { ExtraLimitName, Policy } from './policy.ts';

/** A limit for one subject. */
export type Counted = UseSubject & Readonly<{
  limit: ExtraLimitName;
  /** Infinity: it is counted, because purposes that have a limit share the count. */
  quota: number;
  windowSeconds: number;
}>;

const NOTHING: readonly Counted[] = Object.freeze([]);

/** What one code for a user counts for. */
export function countedOfRequest(policy: Policy, userId: string): readonly Counted[] {
  const { userDailyLimit, destinationLimit } = policy;
  if (userDailyLimit === null && destinationLimit === null) return NOTHING;
  const counted: Counted[] = [];
  if (userDailyLimit !== null) counted.push(countedFor('user_daily', userId, userDailyLimit));
  const destination = countedDestination(policy, userId);
  if (destination !== null && destinationLimit !== null) {
    counted.push(countedFor('destination', destination, destinationLimit));
  }
  return counted;
}

/** What a code for a user goes to, when that is counted; else null. */
export function countedDestination(policy: Policy, userId: string): string | null {
  return policy.destinationLimit === null ? null : destinationOf(userId, policy.destinationDigits);
}

/** What one wrong code from an address counts for; a null address is not counted. */
export function countedOfAttempt(policy: Policy, address: string | null): readonly Counted[] {
  const { wrongCodesLimit } = policy;
  if (wrongCodesLimit === null || address === null) return NOTHING;
  return [countedFor('wrong_codes', address, wrongCodesLimit)];
}

function countedFor(limit: ExtraLimitName, subject: string, quota: number): Counted {
  return { limit, subject, quota, ...USE_KINDS[limit] };
}
