/**
 * The numbers that the rules obey (contract, "Numbers"): their defaults, their bounds, and
 * which purpose follows which. A policy is a frozen value; nothing here reads files or clocks.
 */

/** The numbers in force for one purpose. Seconds and counts, always whole. */
export type Policy = Readonly<{
  codeDigits: number;
  lifetimeSeconds: number;
  userLimit: number;
  addressLimit: number;
  wrongAttempts: number;
  lockSeconds: number;
  wrongAttemptsUntilUnlock: number;
  keyRetentionSeconds: number;
}>;

/** The rolling window of both limits; the contract fixes it at 15 minutes. */
export const WINDOW_SECONDS = 900;

type Bound = Readonly<{ default: number; min: number; max: number }>;

/** Default and bounds of every number (contract, "Numbers"). */
export const POLICY_BOUNDS: Readonly<Record<keyof Policy, Bound>> = Object.freeze({
  codeDigits: { default: 6, min: 6, max: 10 },
  lifetimeSeconds: { default: 300, min: 30, max: 600 },
  userLimit: { default: 3, min: 1, max: 1000 },
  addressLimit: { default: 8, min: 1, max: 100_000 },
  wrongAttempts: { default: 3, min: 1, max: 10 },
  lockSeconds: { default: 600, min: 1, max: 86_400 },
  wrongAttemptsUntilUnlock: { default: 100, min: 3, max: 100 },
  keyRetentionSeconds: { default: 86_400, min: 3_600, max: 604_800 },
});

/** The policy when nothing is set. */
export const DEFAULT_POLICY: Policy = Object.freeze(
  Object.fromEntries(
    Object.entries(POLICY_BOUNDS).map(([name, bound]) => [name, bound.default]),
  ) as Record<keyof Policy, number>,
);

/** The policy of every purpose. */
export type Policies = Readonly<{
  default: Policy;
  /** Never fails: a purpose without a policy of its own has the default. */
  for: (purpose: string) => Policy;
  /** Whether codes are issued and redeemed for a purpose at all. */
  allows: (purpose: string) => boolean;
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
  return Object.freeze({
    default: fallback,
    for: (purpose: string) => byPurpose.get(purpose) ?? fallback,
    allows: (purpose: string) => allowed === null || allowed.has(purpose),
  });
}
