/** Which limits leave no room for a request, and which of those refuse it. */
import type { Instant } from '../db/instant.ts';
import type { Counted } from './counted.ts';
import type { LimitName, Policy } from './policy.ts';
import { cooldownOf } from './tally.ts';
import type { Tally } from './tally.ts';
import type { LimitState } from './window.ts';

/** A limit beyond the contract's two, and what it has counted. */
export type CountedTally = Readonly<{ counted: Counted; tally: Tally }>;

/** A limit without room, and for how many whole seconds. */
export type SpentLimit = Readonly<{ limit: LimitName; seconds: number }>;

/** What a request comes to by its limits. */
export type Refusal = Readonly<{
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
 * @param address null when no address is counted
 * @param tallies the other limits
 */
export function spentLimits(
  user: LimitState,
  address: LimitState | null,
  tallies: readonly CountedTally[],
  now: Instant,
): readonly SpentLimit[] {
  const ofAddress = address?.cooldownSeconds ?? 0;
  if (user.cooldownSeconds === 0 && ofAddress === 0 && tallies.length === 0) return NO_LIMITS;
  const all: SpentLimit[] = [
    { limit: 'user', seconds: user.cooldownSeconds },
    { limit: 'address', seconds: ofAddress },
    ...tallies.map((one) => ({ limit: one.counted.limit, seconds: secondsLeft(one, now) })),
  ];
  return all.filter(({ seconds }) => seconds > 0);
}

/** Whole seconds until a limit lets one more through; 0 when it does now. */
export function secondsLeft({ counted, tally }: CountedTally, now: Instant): number {
  return cooldownOf(tally, counted.quota, counted.windowSeconds, now);
}

/** Tells those that refuse from those in shadow. */
export function refusalBy(spent: readonly SpentLimit[], { shadow }: Policy): Refusal {
  if (spent.length === 0) return NO_REFUSAL;
  const refusing = spent.filter(({ limit }) => !shadow.has(limit));
  return {
    limitedBy: refusing.map(({ limit }) => limit),
    shadowed: spent.filter(({ limit }) => shadow.has(limit)).map(({ limit }) => limit),
    retryAfterSeconds: Math.max(0, ...refusing.map(({ seconds }) => seconds)),
  };
}
