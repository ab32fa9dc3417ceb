/** What the HTTP layer counts: the responses of each route, and how long they took. */
import { counter, Histogram, histogram } from '../metrics/families.ts';
import type { Family } from '../metrics/families.ts';
import { STATUS } from './response.ts';
import type { AdminCode, ResponseCode } from './response.ts';

/** Seconds: from a lone request on a fast disk to beyond the slowest answer. */
const BUCKET_BOUNDS_SECONDS: readonly number[] = Object.freeze([
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
]);

/** What the second listener responses is not shown. */
const ADMIN_CODES: readonly ResponseCode[] = Object.freeze<AdminCode[]>([
  'alive', 'ready', 'not_ready', 'metrics',
]);

/** The client had gone before there was an answer. */
const CLIENT_GONE = 'client_gone';

const CODES: readonly string[] = Object.freeze([...Object.keys(STATUS), CLIENT_GONE]);

const REPORTED_CODES = CODES.filter((code) => !ADMIN_CODES.includes(code as ResponseCode));

/** Counts the responses of one route. */
export class RouteMeter {
  /** By what a request ended in. */
  readonly responses: Record<string, number>
    = Object.fromEntries(CODES.map((code) => [code, 0]));
  readonly seconds = new Histogram(BUCKET_BOUNDS_SECONDS);

  /** Counts a response; null: there was nobody left to answer. */
  count(code: ResponseCode | null, durationMs: number | null): void {
    this.responses[code ?? CLIENT_GONE]! += 1;
    if (durationMs !== null) this.seconds.observe(durationMs / 1000);
  }
}

/** Those of all routes. */
export type HttpMeters = Readonly<{
  /** Milliseconds of a clock that only runs. */
  now: () => number;
  request: RouteMeter;
  verify: RouteMeter;
  otp: RouteMeter;
  /** Of what names no route. */
  other: RouteMeter;
}>;

/** Makes meters. Without a clock they take no time. */
export function createHttpMeters(now: () => number = () => 0): HttpMeters {
  const [request, verify, otp, other] = [1, 2, 3, 4].map(() => new RouteMeter()) as
    [RouteMeter, RouteMeter, RouteMeter, RouteMeter];
  return Object.freeze({ now, request, verify, otp, other });
}

/** What was counted. */
export function httpFamilies({ request, verify, otp, other }: HttpMeters): Family[] {
  const routes = [['/otp/request', request], ['/otp/verify', verify], ['/otp/{otp_id}', otp],
    ['other', other]] as const;
  return [
    counter('otpd_http_requests_total', 'Requests by route and by what they ended in.',
      routes.flatMap(([route, { responses }]) =>
        REPORTED_CODES.map((code) => [{ route, code }, responses[code]!] as const))),
    histogram('otpd_http_request_duration_seconds',
      'Time from the header section of a request to its answer.',
      routes.map(([route, { seconds }]) => [{ route }, seconds] as const)),
  ];
}
