/** The two header fields of draft-ietf-httpapi-ratelimit-headers on answers of /otp/request. */
import type { Limits } from '../otp/outcome.ts';
import { WINDOW_SECONDS } from '../otp/policy.ts';
import type { Policy } from '../otp/policy.ts';

/** RateLimit-Policy alone, for an answer that counted nothing: name and value. */
export function policyHeaders(policy: Policy): readonly string[] {
  return ['RateLimit-Policy',
    `"user";q=${policy.userLimit};w=${WINDOW_SECONDS}, `
    + `"ip";q=${policy.addressLimit};w=${WINDOW_SECONDS}`];
}

/** RateLimit-Policy and RateLimit, for an answer that knows both limits: names and values. */
export function limitHeaders({ user, address }: Limits): readonly string[] {
  return [
    'RateLimit-Policy', `"user";q=${user.quota};w=${user.windowSeconds}, `
      + `"ip";q=${address.quota};w=${address.windowSeconds}`,
    'RateLimit', `"user";r=${user.remaining};t=${user.resetSeconds}, `
      + `"ip";r=${address.remaining};t=${address.resetSeconds}`,
  ];
}
