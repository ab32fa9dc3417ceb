/** A request with all that names it in the database, and the names of a list of them. */
import type { Hex } from '../db/hex.ts';
import { countedOfRequest } from './counted.ts';
import type { Counted } from './counted.ts';
import { digestKey } from './key-digest.ts';
import type { IssueInput } from './outcome.ts';
import type { Policies, Policy } from './policy.ts';

/** A request as the statements and the rule know it. */
export type NamedRequest = Omit<IssueInput, 'key' | 'caller'> &
  Readonly<{
    policy: Policy;
    keyDigest: Hex;
    /** What it counts for, beside the contract's limits. */
    counted: readonly Counted[];
  }>;

/** Names a request. */
export function nameRequest(policies: Policies, input: IssueInput): NamedRequest {
  const { userId, purpose, address, key, caller, acceptLanguage } = input;
  const policy = policies.for(purpose);
  return {
    userId,
    purpose,
    address,
    acceptLanguage,
    policy,
    keyDigest: digestKey('request', key, caller),
    counted: countedOfRequest(policy, userId),
  };
}

/** Everything that a list of requests names, each once. */
export function namesOf(requests: readonly NamedRequest[]) {
  const addresses = new Set<string>();
  for (const { address } of requests) if (address !== null) addresses.add(address);
  return {
    users: [...new Set(requests.map(({ userId }) => userId))],
    addresses: [...addresses],
    keys: [...new Set(requests.map(({ keyDigest }) => keyDigest))],
  };
}

/**
 * How many of the oldest points of an address the answers of a list may name: one, unless it has
 * more than a purpose with a smaller limit allows. Each request may use one more. A limit in shadow
 * names no time but that of the oldest.
 */
export function pointsNamedBy(requests: readonly NamedRequest[]) {
  return (address: string, livePoints: number): number => {
    const here = requests.filter((request) => request.address === address);
    const quotas = here.filter(({ policy }) => !policy.shadow.has('address'))
      .map(({ policy }) => policy.addressLimit);
    return Math.max(1, livePoints + here.length - Math.min(...quotas) + 1);
  };
}
