/** The metrics of the HTTP layer: responses by route and code, and their durations. */
import { counter, Histogram, histogram } from '../metrics/families.ts';
import type { Family } from '../metrics/families.ts';
import { ADMIN_CODES, STATUS, SUPPORT_CODES } from './response.ts';
import type { ResponseCode } from './response.ts';

/** From a single request on a fast disk to more than the longest deadline. */
const BUCKET_BOUNDS_SECONDS: readonly number[] = Object.freeze([
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
]);

/** The codes of the admin listener, whose requests are not reported. */
const UNREPORTED: readonly string[] = Object.freeze([...ADMIN_CODES, ...SUPPORT_CODES]);

/** The code of a request whose client disconnected before there was a response. */
const CLIENT_GONE = 'client_gone';

const CODES: readonly string[] = Object.freeze([...Object.keys(STATUS), CLIENT_GONE]);

const REPORTED_CODES = CODES.filter((code) => !UNREPORTED.includes(code));

/** Counts the responses of one route. */
export class RouteMeter {
  readonly responses: Record<string, number>
    = Object.fromEntries(CODES.map((code) => [code, 0]));
  readonly seconds = new Histogram(BUCKET_BOUNDS_SECONDS);

  /** A null code is a disconnected client; a null duration belongs to a parse error. */
  count(code: ResponseCode | null, durationMs: number | null): void {
    this.responses[code ?? CLIENT_GONE]! += 1;
    if (durationMs !== null) this.seconds.observe(durationMs / 1000);
  }
}

export type HttpMeters = Readonly<{
  /** Milliseconds of a monotonic clock. */
  now: () => number;
  request: RouteMeter;
  verify: RouteMeter;
  otp: RouteMeter;
  report: RouteMeter;
  /** Requests without a route, and parse errors. */
  other: RouteMeter;
}>;

/** Without a clock every duration is zero. */
export function createHttpMeters(now: () => number = () => 0): HttpMeters {
  const [request, verify, otp, report, other] = [1, 2, 3, 4, 5].map(() => new RouteMeter()) as
    [RouteMeter, RouteMeter, RouteMeter, RouteMeter, RouteMeter];
  return Object.freeze({ now, request, verify, otp, report, other });
}

export function httpFamilies({ request, verify, otp, report, other }: HttpMeters): Family[] {
  const routes = [['/otp/request', request], ['/otp/verify', verify], ['/otp/{otp_id}', otp],
    ['/sms/status/{report}', report], ['other', other]] as const;
  return [
    counter('otpd_http_requests_total', 'Requests by route and by what they ended in.',
      routes.flatMap(([route, { responses }]) =>
        REPORTED_CODES.map((code) => [{ route, code }, responses[code]!] as const))),
    histogram('otpd_http_request_duration_seconds',
      'Time from the header section of a request to its answer.',
      routes.map(([route, { seconds }]) => [{ route }, seconds] as const)),
  ];
}
