/** The two header fields of draft-ietf-httpapi-ratelimit-headers on answers of /otp/request. */
import type { Limits } from '../otp/outcome.ts';
import { WINDOW_SECONDS } from '../otp/policy.ts';
import type { Policy } from '../otp/policy.ts';

/**
 * RateLimit-Policy alone, for an answer that counted nothing: name and value.
 *
 * @param countsAddress false when no address is counted: then its limit is not named
 */
export function policyHeaders(policy: Policy, countsAddress: boolean): readonly string[] {
  const addressQuota = countsAddress ? policy.addressLimit : null;
  return ['RateLimit-Policy', policyText(policy.userLimit, addressQuota)];
}

/** RateLimit-Policy and RateLimit, for an answer that knows what is left: names and values. */
export function limitHeaders({ user, address }: Limits): readonly string[] {
  const userLimit = `"user";r=${user.remaining};t=${user.resetSeconds}`;
  if (address === null) {
    return ['RateLimit-Policy', policyText(user.quota, null), 'RateLimit', userLimit];
  }
  return [
    'RateLimit-Policy', policyText(user.quota, address.quota),
    'RateLimit', `${userLimit}, "ip";r=${address.remaining};t=${address.resetSeconds}`,
  ];
}

/** The text that was made last: nearly all answers follow one policy. */
let latest: Readonly<{ userQuota: number; addressQuota: number | null; text: string }>
  = { userQuota: 0, addressQuota: 0, text: '' };

function policyText(userQuota: number, addressQuota: number | null): string {
  if (userQuota !== latest.userQuota || addressQuota !== latest.addressQuota) {
    const user = `"user";q=${userQuota};w=${WINDOW_SECONDS}`;
    const text = addressQuota === null ? user
      : `${user}, "ip";q=${addressQuota};w=${WINDOW_SECONDS}`;
    latest = { userQuota, addressQuota, text };
  }
  return latest.text;
}
