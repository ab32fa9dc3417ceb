/** The table of routes, and how a request target names one (RFC 9112, 3.2). */
import type { Buffer } from 'node:buffer';
import type { OtpService } from '../otp/service.ts';
import type { Policies } from '../otp/policy.ts';
import type { Answer } from './answer.ts';
import { isHost } from './head.ts';
import { policyHeaders } from './rate-limit.ts';
import { requestOtp } from './request-otp.ts';
import { verifyOtp } from './verify-otp.ts';

/** What a handler is given: nothing of node:http. */
export type RequestInput = Readonly<{
  body: Buffer;
  /** The values of all Idempotency-Key lines. */
  keys: readonly string[];
  /** The Accept-Language field, of any content and bounded; '' when there is none. */
  acceptLanguage: string;
  /** The counted client address. */
  address: string;
  /** False once the client is gone: then nothing needs to be done for it. */
  isWanted: () => boolean;
}>;

/** One route; every route takes POST and nothing else. */
export type Route = Readonly<{
  path: string;
  /** Headers of the answers that are given before the handler runs: names and values. */
  headers: readonly string[];
  handle: (input: RequestInput) => Promise<Answer>;
}>;

/** The routes by path. */
export type Routes = ReadonlyMap<string, Route>;

/** The two routes of the contract. */
export function createRoutes(service: OtpService, policies: Policies): Routes {
  const routes: Route[] = [
    {
      path: '/otp/request',
      headers: policyHeaders(policies.default),
      handle: (input) => requestOtp(service, policies, input),
    },
    {
      path: '/otp/verify',
      headers: [],
      handle: (input) => verifyOtp(service, policies, input),
    },
  ];
  return new Map(routes.map((route) => [route.path, route]));
}

/**
 * The path of a request target, byte for byte: no decoding, no dot segments, no merging of
 * slashes, so that no two spellings are one route. The query is left out.
 *
 * @param target origin-form, absolute-form or `*`
 * @returns the path (`*` for itself), or null when the target is none of these
 */
export function pathOf(target: string): string | null {
  if (target.startsWith('/')) return withoutQuery(target);
  if (target === '*') return target;
  const scheme = /^https?:\/\//i.exec(target);
  if (scheme === null) return null;
  const rest = target.slice(scheme[0].length);
  const end = rest.search(/[/?]/);
  const authority = end === -1 ? rest : rest.slice(0, end);
  if (!isHost(authority)) return null;
  return end === -1 || rest[end] === '?' ? '/' : withoutQuery(rest.slice(end));
}

function withoutQuery(target: string): string {
  const query = target.indexOf('?');
  return query === -1 ? target : target.slice(0, query);
}
