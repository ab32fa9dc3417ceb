/**
 * The numbers that the rules obey (contract, "Numbers"): their defaults, their bounds, and
 * which purpose follows which. A policy is a frozen value; nothing here reads files or clocks.
 */
/** The limits beyond the contract's two, as metrics and answers name them. */
export type ExtraLimitName = 'user_daily' | 'destination' | 'wrong_codes';

/** All limits. */
export type LimitName = 'user' | 'address' | ExtraLimitName;

/** Seconds and counts, always whole. */
type Numbers = Readonly<{
  codeDigits: number;
  lifetimeSeconds: number;
  userLimit: number;
  addressLimit: number;
  wrongAttempts: number;
  lockSeconds: number;
  wrongAttemptsUntilUnlock: number;
  keyRetentionSeconds: number;
  /** How many digits of a phone number are its destination: the same for all purposes. */
  destinationDigits: number;
}>;

/**
 * Limits that need not be. Null: nothing is counted. Infinity: there is none, but the count is
 * shared with purposes that have one.
 */
type ExtraLimits = Readonly<{
  /** Codes per user in a day. */
  userDailyLimit: number | null;
  /** Codes per destination in an hour. */
  destinationLimit: number | null;
  /** Wrong codes per address in an hour. */
  wrongCodesLimit: number | null;
}>;

/** What can be set, and has bounds. */
export type PolicyNumber = keyof (Numbers & ExtraLimits);

/** What is in force for one purpose. */
export type Policy = Numbers & ExtraLimits & Readonly<{
  /** The limits that count and report, and refuse nobody. */
  shadow: ReadonlySet<LimitName>;
}>;

/** The rolling window of both limits; the contract fixes it at 15 minutes. */
export const WINDOW_SECONDS = 900;

/** The rolling window of each extra limit. */
export const EXTRA_WINDOW_SECONDS: Readonly<Record<ExtraLimitName, number>> = Object.freeze({
  user_daily: 86_400,
  destination: 3600,
  wrong_codes: 3600,
});

type Bound = Readonly<{ min: number; max: number }>;

/** What a policy may set, and between which bounds (contract, "Numbers"). */
export const POLICY_BOUNDS: Readonly<Record<PolicyNumber, Bound>> = Object.freeze({
  codeDigits: { min: 6, max: 10 },
  lifetimeSeconds: { min: 30, max: 600 },
  userLimit: { min: 1, max: 1000 },
  addressLimit: { min: 1, max: 100_000 },
  wrongAttempts: { min: 1, max: 10 },
  lockSeconds: { min: 1, max: 86_400 },
  wrongAttemptsUntilUnlock: { min: 3, max: 100 },
  keyRetentionSeconds: { min: 3_600, max: 604_800 },
  userDailyLimit: { min: 1, max: 100_000 },
  destinationLimit: { min: 1, max: 10_000_000 },
  destinationDigits: { min: 1, max: 15 },
  wrongCodesLimit: { min: 1, max: 1_000_000 },
});

/** The policy when nothing is set (contract, "Numbers"). */
export const DEFAULT_POLICY: Policy = Object.freeze({
  codeDigits: 6,
  lifetimeSeconds: 300,
  userLimit: 3,
  addressLimit: 8,
  wrongAttempts: 3,
  lockSeconds: 600,
  wrongAttemptsUntilUnlock: 100,
  keyRetentionSeconds: 86_400,
  userDailyLimit: null,
  destinationLimit: null,
  destinationDigits: 5,
  wrongCodesLimit: null,
  shadow: new Set<LimitName>(),
});

/** The policy of every purpose. */
export type Policies = Readonly<{
  default: Policy;
  /** Never fails: a purpose without a policy of its own has the default. */
  for: (purpose: string) => Policy;
  /** Whether codes are issued and redeemed for a purpose at all. */
  allows: (purpose: string) => boolean;
  /** Whether purposes keep idempotency keys for different times. */
  keyRetentionVaries: boolean;
}>;

/**
 * Binds purposes to policies.
 *
 * @param fallback the policy of every purpose without one of its own
 * @param byPurpose complete policies of single purposes
 * @param allowed the purposes that there are; null: every one that is asked for
 */
export function createPolicies(
  fallback: Policy = DEFAULT_POLICY,
  byPurpose: ReadonlyMap<string, Policy> = new Map(),
  allowed: ReadonlySet<string> | null = null,
): Policies {
  const all = [fallback, ...byPurpose.values()];
  const shared = EXTRA_LIMITS.filter((limit) => all.some((policy) => policy[limit] !== null));
  const base = shareCounts(fallback, shared);
  const others = new Map([...byPurpose].map(([purpose, policy]) =>
    [purpose, shareCounts(policy, shared)]));
  return Object.freeze({
    default: base,
    for: (purpose: string) => others.get(purpose) ?? base,
    allows: (purpose: string) => allowed === null || allowed.has(purpose),
    keyRetentionVaries: all.some((policy) =>
      policy.keyRetentionSeconds !== fallback.keyRetentionSeconds),
  });
}

const EXTRA_LIMITS = ['userDailyLimit', 'destinationLimit', 'wrongCodesLimit'] as const;

/** What one purpose limits is counted for all. */
function shareCounts(policy: Policy, shared: readonly (keyof ExtraLimits)[]): Policy {
  const counted = { ...policy };
  for (const limit of shared) counted[limit] ??= Infinity;
  return Object.freeze(counted);
}

/**
 * The policies in force. Whoever decides something asks once, and goes by the policy that it was
 * given: all numbers of one request come from one policy.
 */
export class LivePolicies implements Policies {
  #current: Policies;

  constructor(current: Policies) {
    this.#current = current;
  }

  /** Puts other policies in force, from the next request on. */
  replace(next: Policies): void {
    this.#current = next;
  }

  get default(): Policy {
    return this.#current.default;
  }

  /** As Policies has it. */
  for(purpose: string): Policy {
    return this.#current.for(purpose);
  }

  /** As Policies has it. */
  allows(purpose: string): boolean {
    return this.#current.allows(purpose);
  }

  get keyRetentionVaries(): boolean {
    return this.#current.keyRetentionVaries;
  }
}
