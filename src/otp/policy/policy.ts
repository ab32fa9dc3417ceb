/**
 * The numbers that the rules use (docs/api.md, "Numbers"): defaults, bounds, and the policy of each
 * purpose. A policy is a frozen value.
 */
import type { HIT_KINDS, LimitSubject } from '../../db/tables/limit-hits.ts';
import type { Labels } from '../templates/language-tags.ts';
import { NO_TEST_IDENTITIES } from './test-identities.ts';
import type { TestIdentities } from './test-identities.ts';

/** The limits, as metrics and the log name them. */
export const LIMIT_NAMES = Object.freeze([
  'user', 'device', 'devices', 'address', 'net48', 'recipient', 'user_daily', 'destination',
  'wrong_codes', 'wrong_codes_net',
] as const);

export type LimitName = (typeof LIMIT_NAMES)[number];

/** The limits that count numbered hits. */
export type HitLimitName = keyof typeof HIT_KINDS;

type Numbers = Readonly<{
  codeDigits: number;
  lifetimeSeconds: number;
  userLimit: number;
  addressLimit: number;
  wrongAttempts: number;
  lockSeconds: number;
  /** Of a user, over all purposes; the same for all purposes. */
  wrongAttemptsUntilUnlock: number;
  /**
   * How many of these only trusted devices may use; the same for all purposes, and 0 unless one of
   * them trusts devices.
   */
  deviceReserve: number;
  /** Codes that all trusted devices of a user together may request. */
  devicesLimit: number;
  keyRetentionSeconds: number;
  /** How many digits of a phone number name its destination; the same for all purposes. */
  destinationDigits: number;
}>;

/**
 * Null: nothing is counted. Infinity: this purpose has no limit, but counts for purposes that do.
 */
type OptionalLimits = Readonly<{
  /** Codes that the clients of an IPv6 /48 may request. */
  netLimit: number | null;
  /** Codes that may go to a recipient under other names than its normal form. */
  recipientLimit: number | null;
  /** Codes that a user may request in a day. */
  userDailyLimit: number | null;
  /** Codes that may go to a destination in an hour. */
  destinationLimit: number | null;
  /** Wrong codes per client IP in an hour. */
  wrongCodesLimit: number | null;
  /** Wrong codes from the clients of an IPv6 /48 in an hour. */
  wrongCodesNetLimit: number | null;
}>;

type Devices = Readonly<{
  /** How long a device is trusted after its last success; null: no device is trusted. */
  deviceDays: number | null;
}>;

export type PolicyNumber = keyof (Numbers & OptionalLimits & Devices);

export type Policy = Numbers & OptionalLimits & Devices & Readonly<{
  requiresOtpId: boolean;
  /** Limits that count and report but refuse nobody. */
  shadow: ReadonlySet<LimitName>;
  /** What messages call the purpose; never what a client calls it. */
  labels: Labels;
}>;

/** The rolling window of the limits of users, client IPs, their /48s and recipients. */
export const WINDOW_SECONDS = 900;

/** How long the success of a verification is kept under its key; it cannot be set. */
export const REPLAY_SECONDS = 300;

/** The rolling window of each limit; it cannot be set. */
export const LIMIT_WINDOW_SECONDS: Readonly<Record<LimitName, number>> = Object.freeze({
  user: WINDOW_SECONDS,
  device: WINDOW_SECONDS,
  devices: WINDOW_SECONDS,
  address: WINDOW_SECONDS,
  net48: WINDOW_SECONDS,
  recipient: WINDOW_SECONDS,
  user_daily: 86_400,
  destination: 3600,
  wrong_codes: 3600,
  wrong_codes_net: 3600,
});

/** What is left to untrusted clients, at least, of the wrong attempts of an account. */
export const WRONG_ATTEMPTS_MIN = 3;

export const DEVICE_DAYS_MAX = 400;

type Bound = Readonly<{ min: number; max: number }>;

export const POLICY_BOUNDS: Readonly<Record<PolicyNumber, Bound>> = Object.freeze({
  codeDigits: { min: 6, max: 10 },
  lifetimeSeconds: { min: 30, max: 600 },
  userLimit: { min: 1, max: 1000 },
  addressLimit: { min: 1, max: 100_000 },
  wrongAttempts: { min: 1, max: 10 },
  lockSeconds: { min: 1, max: 86_400 },
  wrongAttemptsUntilUnlock: { min: WRONG_ATTEMPTS_MIN, max: 100 },
  deviceDays: { min: 1, max: DEVICE_DAYS_MAX },
  deviceReserve: { min: 0, max: 97 },
  devicesLimit: { min: 1, max: 1000 },
  keyRetentionSeconds: { min: 3_600, max: 604_800 },
  netLimit: { min: 1, max: 1_000_000 },
  recipientLimit: { min: 1, max: 1000 },
  userDailyLimit: { min: 1, max: 100_000 },
  destinationLimit: { min: 1, max: 10_000_000 },
  destinationDigits: { min: 1, max: 15 },
  wrongCodesLimit: { min: 1, max: 1_000_000 },
  wrongCodesNetLimit: { min: 1, max: 1_000_000 },
});

/** A policy before its numbers are derived: undefined means that a number is not set. */
export type PolicyDraft = Record<PolicyNumber, number | null | undefined>
  & { readonly shadow: Set<LimitName>; labels: Labels; requiresOtpId: boolean };

export const DEFAULT_DRAFT: PolicyDraft = {
  codeDigits: 6,
  lifetimeSeconds: 300,
  userLimit: 3,
  addressLimit: 8,
  wrongAttempts: 3,
  lockSeconds: 600,
  wrongAttemptsUntilUnlock: 100,
  deviceDays: null,
  deviceReserve: undefined,
  devicesLimit: 6,
  keyRetentionSeconds: 86_400,
  netLimit: undefined,
  recipientLimit: 5,
  userDailyLimit: null,
  destinationLimit: null,
  destinationDigits: 5,
  wrongCodesLimit: undefined,
  wrongCodesNetLimit: undefined,
  requiresOtpId: false,
  shadow: new Set<LimitName>(),
  labels: new Map(),
};

/** A site has a few networks, and far fewer clients than a /48 has addresses. */
const NET_LIMIT_PER_ADDRESS_LIMIT = 16;

const DEVICE_RESERVE_SHARE = 0.3;

const WRONG_CODES_MIN = 60;
const WRONG_CODES_PER_CODE = 7.5;
const WRONG_CODES_NET_FACTOR = 10;

/** Derives the numbers that are not set. A trial of a limit is one of the limit derived from it. */
export function completePolicy(draft: PolicyDraft): Policy {
  const shadow = new Set(draft.shadow);
  const { deviceReserve: reserve
    = Math.floor(DEVICE_RESERVE_SHARE * (draft.wrongAttemptsUntilUnlock as number)) } = draft;
  const deviceReserve = draft.deviceDays === null ? 0 : reserve;
  const addressLimit = draft.addressLimit as number;
  const { netLimit = NET_LIMIT_PER_ADDRESS_LIMIT * addressLimit } = draft;
  const { wrongCodesLimit = Math.max(WRONG_CODES_MIN,
    Math.floor(WRONG_CODES_PER_CODE * addressLimit)) } = draft;
  const { wrongCodesNetLimit
    = wrongCodesLimit === null ? null : WRONG_CODES_NET_FACTOR * wrongCodesLimit } = draft;
  if (shadow.has('user')) shadow.add('device');
  if (draft.netLimit === undefined && shadow.has('address')) shadow.add('net48');
  if (draft.wrongCodesNetLimit === undefined && shadow.has('wrong_codes')) {
    shadow.add('wrong_codes_net');
  }
  return Object.freeze(
    { ...draft, deviceReserve, netLimit, wrongCodesLimit, wrongCodesNetLimit, shadow } as Policy,
  );
}

export const DEFAULT_POLICY: Policy = completePolicy(DEFAULT_DRAFT);

export type Policies = Readonly<{
  default: Policy;
  /** Returns the default for a purpose without a policy of its own. */
  for: (purpose: string) => Policy;
  /** Whether codes may be requested and verified for a purpose. */
  allows: (purpose: string) => boolean;
  /** Whether purposes that are not listed are allowed. */
  isOpen: boolean;
  /** The purposes that the policy file names. */
  listed: readonly string[];
  testIdentities: TestIdentities;
}>;

/**
 * @param fallback for every purpose without a policy of its own
 * @param byPurpose complete policies of single purposes
 * @param allowed null when every purpose is allowed
 */
export function createPolicies(
  fallback: Policy = DEFAULT_POLICY,
  byPurpose: ReadonlyMap<string, Policy> = new Map(),
  allowed: ReadonlySet<string> | null = null,
  testIdentities = NO_TEST_IDENTITIES,
): Policies {
  const all = [fallback, ...byPurpose.values()];
  const shared = OPTIONAL_LIMITS.filter((limit) => all.some((policy) => policy[limit] !== null));
  const deviceReserve = Math.max(...all.map((policy) => policy.deviceReserve));
  const base = share({ ...fallback, deviceReserve }, shared);
  const others = new Map([...byPurpose].map(([purpose, policy]) =>
    [purpose, share({ ...policy, deviceReserve }, shared)]));
  return Object.freeze({
    default: base,
    for: (purpose: string) => others.get(purpose) ?? base,
    allows: (purpose: string) => allowed === null || allowed.has(purpose),
    isOpen: allowed === null,
    listed: Object.freeze([...new Set([...byPurpose.keys(), ...allowed ?? []])]),
    testIdentities,
  });
}

const OPTIONAL_LIMITS = [
  'netLimit', 'recipientLimit', 'userDailyLimit', 'destinationLimit', 'wrongCodesLimit',
  'wrongCodesNetLimit',
] as const;

/** A limit of one purpose counts the requests of all purposes. */
function share(policy: Policy, shared: readonly (keyof OptionalLimits)[]): Policy {
  const counted = { ...policy };
  for (const limit of shared) counted[limit] ??= Infinity;
  return Object.freeze(counted);
}

/**
 * The policies in force, which a reload replaces. Each request reads its policy once, so that all
 * its numbers come from the same version.
 */
export class LivePolicies implements Policies {
  #current: Policies;

  constructor(current: Policies) {
    this.#current = current;
  }

  replace(next: Policies): void {
    this.#current = next;
  }

  get default(): Policy {
    return this.#current.default;
  }

  for(purpose: string): Policy {
    return this.#current.for(purpose);
  }

  allows(purpose: string): boolean {
    return this.#current.allows(purpose);
  }

  get isOpen(): boolean {
    return this.#current.isOpen;
  }

  get listed(): readonly string[] {
    return this.#current.listed;
  }

  get testIdentities(): TestIdentities {
    return this.#current.testIdentities;
  }
}

/** A limit that is in force for a request; Infinity when only other purposes have it. */
export type NamedQuota = Readonly<{ limit: LimitName; quota: number }>;

/** A limit that counts numbered hits, and its subject. */
export type AppliedLimit = LimitSubject & Readonly<{
  limit: HitLimitName;
  /** Infinity when only other purposes have this limit, because all purposes share the count. */
  quota: number;
  windowSeconds: number;
}>;
