/** The two header fields of draft-ietf-httpapi-ratelimit-headers on answers of /otp/request. */
import type { Limits } from '../otp/outcome.ts';
import { WINDOW_SECONDS } from '../otp/policy.ts';
import type { Policy } from '../otp/policy.ts';

/** RateLimit-Policy alone, for an answer that counted nothing: name and value. */
export function policyHeaders(policy: Policy): readonly string[] {
  return ['RateLimit-Policy', policyText(policy.userLimit, policy.addressLimit)];
}

/** RateLimit-Policy and RateLimit, for an answer that knows both limits: names and values. */
export function limitHeaders({ user, address }: Limits): readonly string[] {
  return [
    'RateLimit-Policy', policyText(user.quota, address.quota),
    'RateLimit', `"user";r=${user.remaining};t=${user.resetSeconds}, `
      + `"ip";r=${address.remaining};t=${address.resetSeconds}`,
  ];
}

/** The text that was made last: nearly all answers follow one policy. */
let latest = { userQuota: 0, addressQuota: 0, text: '' };

function policyText(userQuota: number, addressQuota: number): string {
  if (userQuota !== latest.userQuota || addressQuota !== latest.addressQuota) {
    const text = `"user";q=${userQuota};w=${WINDOW_SECONDS}, `
      + `"ip";q=${addressQuota};w=${WINDOW_SECONDS}`;
    latest = { userQuota, addressQuota, text };
  }
  return latest.text;
}
