/** The routes: their paths, their methods, and the headers of their errors. */
import type { Buffer } from 'node:buffer';
import type { MethodHandler } from './handler.ts';
import { createCancelHandler, createReportHandler, createStatusHandler } from './handlers/otp.ts';
import { createRequestHandler, policyHeaders } from './handlers/request.ts';
import { createVerifyHandler } from './handlers/verify.ts';
import { createHttpMeters } from './metrics.ts';
import type { HttpMeters, RouteMeter } from './metrics.ts';
import type { ClientAddress } from '../otp/outcomes.ts';
import type { Policies } from '../otp/policy/policy.ts';
import type { OtpService } from '../otp/service.ts';
import { errorResponse, methodNotAllowed, NO_HEADERS } from './response.ts';
import type { HttpResponse } from './response.ts';

export type Route = Readonly<{
  /** The pattern, as the log shows it. */
  path: string;
  methods: ReadonlyMap<string, MethodHandler>;
  /** The response to every other method: 405, or 404 where no path of a route was sent. */
  notAllowed: HttpResponse;
  /** Headers of responses that the handler does not create: names and values in turn. */
  headersFor: (client: ClientAddress) => readonly string[];
  meter: RouteMeter;
}>;

export type Routes = Readonly<{
  /** Routes with one path each. */
  fixed: ReadonlyMap<string, Route>;
  /** The route of an OTP; null on the admin listener. */
  otp: Route | null;
  /** The route of reports of providers; null when none is asked for. */
  report: Route | null;
  /** The route of a path below /users/ on the admin listener; null: there is none. */
  user: ((path: string) => Route | null) | null;
  /** Requests for any other path, and parse errors. */
  other: Route;
  /** Milliseconds of a monotonic clock. */
  now: () => number;
  /** The response to CONNECT, whose target is not a path. */
  connectNotAllowed: HttpResponse;
}>;

const PATHS = '/otp/request, /otp/verify, /openapi.json and /otp/ with the 32 lower-case'
  + ' hexadecimal digits of an otp_id';

/** @param description the file openapi.json, which is the response to GET /openapi.json */
export function createRoutes(
  service: OtpService,
  policies: Policies,
  description: Buffer,
  meters: HttpMeters = createHttpMeters(),
): Routes {
  const status = createStatusHandler(service);
  const cancel = createCancelHandler(service);
  const requestRoute = {
    ...createRoute('/otp/request', meters.request, {
      POST: createRequestHandler(service, policies),
    }),
    headersFor: (client: ClientAddress) => policyHeaders(policies.default, client),
  };
  const verifyRoute = createRoute('/otp/verify', meters.verify, {
    POST: createVerifyHandler(service, policies),
  });
  const describe = createDescriptionHandler(description);
  const descriptionRoute = createRoute('/openapi.json', meters.other, {
    GET: describe, HEAD: describe,
  });
  const other = createOtherRoute(meters.other, PATHS);
  const fixed = [requestRoute, verifyRoute, descriptionRoute];
  return {
    fixed: new Map(fixed.map((route) => [route.path, route])),
    otp: createRoute('/otp/{otp_id}', meters.otp, { GET: status, HEAD: status, DELETE: cancel }),
    report: service.report === null ? null
      : createRoute('/sms/status/{report}', meters.report, {
        POST: createReportHandler(service.report, other.notAllowed),
      }),
    user: null,
    other,
    now: meters.now,
    connectNotAllowed: methodNotAllowed(['POST']),
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
    notAllowed: methodNotAllowed(Object.keys(methods)),
    headersFor: () => NO_HEADERS,
    meter,
  };
}

/**
 * The response has the bytes of the file and no copy of them, however slowly its clients read. It
 * needs no API key, because it is the same for every installation.
 */
function createDescriptionHandler(description: Buffer): MethodHandler {
  const response: HttpResponse = Object.freeze({
    code: 'described', body: description, headers: NO_HEADERS, close: false,
  });
  return { content: null, scopes: null, parseKey: () => null, handle: async () => response };
}

/** The route of all paths that no other route has. */
export function createOtherRoute(meter: RouteMeter, paths: string): Route {
  const notAllowed = errorResponse('not_found', { message: `the paths are ${paths}` });
  return { path: 'other', methods: new Map(), notAllowed, headersFor: () => NO_HEADERS, meter };
}
