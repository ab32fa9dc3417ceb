/** The routes, and the lookup of a request target (RFC 9112, 3.2). */
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

export type Route = Readonly<{
  /** The pattern, as the log shows it. */
  path: string;
  methods: ReadonlyMap<string, MethodHandler>;
  /** The response to every other method. */
  notAllowed: HttpResponse;
  /** Headers of responses that the handler does not create: names and values in turn. */
  headersFor: (countsClientIp: boolean) => readonly string[];
  meter: RouteMeter;
}>;

export type Routes = Readonly<{
  /** Routes with one path each. */
  fixed: ReadonlyMap<string, Route>;
  /** The route of an OTP; null on the admin listener. */
  otp: Route | null;
  /** Counts requests without a route, and parse errors. */
  other: RouteMeter;
  /** Milliseconds of a monotonic clock. */
  now: () => number;
  /** The response to CONNECT, whose target is not a path. */
  connectNotAllowed: HttpResponse;
}>;

const NO_HEADERS: readonly string[] = Object.freeze([]);

/** An otp_id has 32 lower-case hexadecimal digits and no other spelling. */
const OTP_PATH = /^\/otp\/[0-9a-f]{32}$/;

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

export function findRoute({ fixed, otp }: Routes, path: string): Route | undefined {
  return fixed.get(path) ?? (otp !== null && OTP_PATH.test(path) ? otp : undefined);
}

/** The id in a path that OTP_PATH matches. */
function otpIdOf(path: string): string {
  return path.slice('/otp/'.length);
}

/**
 * The path of a request target without its query, byte for byte: nothing is decoded or merged, so
 * a route has one spelling. Null unless the target is in origin-form or absolute-form, or is `*`.
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
