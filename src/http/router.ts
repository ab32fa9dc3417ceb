/** The table of routes, and how a request target names one (RFC 9112, 3.2). */
import type { MethodHandler } from './handler.ts';
import { cancelOtp } from './handlers/cancel.ts';
import { policyHeaders, requestOtp } from './handlers/request.ts';
import { getStatus } from './handlers/status.ts';
import { verifyOtp } from './handlers/verify.ts';
import { isHost } from './input/request-headers.ts';
import { createHttpMeters } from './metrics.ts';
import type { HttpMeters, RouteMeter } from './metrics.ts';
import type { Policies } from '../otp/policy/policy.ts';
import type { OtpService } from '../otp/service.ts';
import { methodNotAllowed } from './response.ts';
import type { HttpResponse } from './response.ts';

/** One route: a table of methods. */
export type Route = Readonly<{
  /** As the log names it. */
  path: string;
  methods: ReadonlyMap<string, MethodHandler>;
  /** The answer to every other method. */
  notAllowed: HttpResponse;
  /** Headers of the answers that are given before the handler runs: names and values. */
  headersFor: (countsClientIp: boolean) => readonly string[];
  meter: RouteMeter;
}>;

/** What a server answers by. */
export type Routes = Readonly<{
  /** The routes that have one path each. */
  fixed: ReadonlyMap<string, Route>;
  /** The one of all codes; null when there is none. */
  otp: Route | null;
  /** Of what names no route. */
  other: RouteMeter;
  /** Milliseconds of a clock that only runs. */
  now: () => number;
  /** The answer to CONNECT, whose target is no path: nothing is ever tunnelled. */
  connectNotAllowed: HttpResponse;
}>;

const NO_HEADERS: readonly string[] = Object.freeze([]);

/** An otp_id is 32 hexadecimal digits; letters in upper case are no other spelling of it. */
const OTP_PATH = /^\/otp\/[0-9a-f]{32}$/;

/** All routes. */
export function createRoutes(
  service: OtpService,
  policies: Policies,
  meters: HttpMeters = createHttpMeters(),
): Routes {
  const request: MethodHandler = {
    takesJson: true,
    scopes: ['request'],
    handle: (input) => requestOtp(service, policies, input),
  };
  const verify: MethodHandler = {
    takesJson: true,
    scopes: ['verify'],
    handle: (input) => verifyOtp(service, policies, input),
  };
  const status: MethodHandler = {
    takesJson: false,
    scopes: ['read'],
    handle: ({ path, isConnected }) => getStatus(service, otpIdOf(path), isConnected),
  };
  const cancel: MethodHandler = {
    takesJson: false,
    scopes: ['request', 'admin'],
    handle: ({ path, isConnected }) => cancelOtp(service, otpIdOf(path), isConnected),
  };
  const requestRoute = {
    ...createRoute('/otp/request', meters.request, { POST: request }),
    headersFor: (countsClientIp: boolean) => policyHeaders(policies.default, countsClientIp),
  };
  const verifyRoute = createRoute('/otp/verify', meters.verify, { POST: verify });
  return {
    fixed: new Map([requestRoute, verifyRoute].map((route) => [route.path, route])),
    otp: createRoute('/otp/{otp_id}', meters.otp, { GET: status, HEAD: status, DELETE: cancel }),
    other: meters.other,
    now: meters.now,
    connectNotAllowed: methodNotAllowed('POST'),
  };
}

/** Makes a route. */
export function createRoute(
  path: string,
  meter: RouteMeter,
  methods: Readonly<Record<string, MethodHandler>>,
): Route {
  return {
    path,
    methods: new Map(Object.entries(methods)),
    notAllowed: methodNotAllowed(Object.keys(methods).join(', ')),
    headersFor: () => NO_HEADERS,
    meter,
  };
}

/** The route of a path; undefined when there is none. */
export function findRoute({ fixed, otp }: Routes, path: string): Route | undefined {
  return fixed.get(path) ?? (otp !== null && OTP_PATH.test(path) ? otp : undefined);
}

/** The id in a path that OTP_PATH fits. */
function otpIdOf(path: string): string {
  return path.slice('/otp/'.length);
}

/**
 * The path of a request target, byte for byte: no decoding, no dot segments, no merging of
 * slashes, so that no two spellings are one route. The query is left out.
 *
 * @param target origin-form, absolute-form or `*`
 * @returns the path (`*` for itself), or null when the target is none of these
 */
export function pathOf(target: string): string | null {
  if (target.startsWith('/')) return stripQuery(target);
  if (target === '*') return target;
  const scheme = /^https?:\/\//i.exec(target);
  if (scheme === null) return null;
  const rest = target.slice(scheme[0].length);
  const end = rest.search(/[/?]/);
  const authority = end === -1 ? rest : rest.slice(0, end);
  if (!isHost(authority)) return null;
  return end === -1 || rest[end] === '?' ? '/' : stripQuery(rest.slice(end));
}

function stripQuery(target: string): string {
  const query = target.indexOf('?');
  return query === -1 ? target : target.slice(0, query);
}
