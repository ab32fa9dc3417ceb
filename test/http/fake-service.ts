/** A server of the HTTP layer on an OtpService that returns prepared outcomes. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AccessRecord } from '../../src/http/access-log.ts';
import type { Notice, RequestError } from '../../src/http/connection.ts';
import { parseApiKeys } from '../../src/http/input/api-keys.ts';
import { parseTrustedProxies } from '../../src/http/input/client-ip.ts';
import { RouteMeter } from '../../src/http/metrics.ts';
import type { HttpMeters } from '../../src/http/metrics.ts';
import { createAdminRoutes, logSupport } from '../../src/http/handlers/admin.ts';
import type { AdminSources } from '../../src/http/handlers/admin.ts';
import { createRoutes } from '../../src/http/routes.ts';
import { createHttpServer, HTTP_LIMITS } from '../../src/http/server.ts';
import type { HttpLimits, HttpServer } from '../../src/http/server.ts';
import type {
  CancelOutcome, Limits, OtpCancellation, OtpRequest, OtpVerification, RequestOutcome,
  StatusOutcome, VerifyOutcome,
} from '../../src/otp/outcomes.ts';
import { createPolicies } from '../../src/otp/policy/policy.ts';
import type { Policies } from '../../src/otp/policy/policy.ts';
import type { OtpService } from '../../src/otp/service.ts';
import { METRICS_CONTENT_TYPE } from '../../src/metrics/families.ts';
import { DESCRIPTION, ROOT } from '../harness/program.ts';
import { certificateInUse } from './transport.ts';

export const LIMITS: Limits = [
  { limit: 'user', quota: 3, remaining: 2, resetSeconds: 900 },
  { limit: 'address', quota: 8, remaining: 7, resetSeconds: 900 },
];

export const OTP_ID = '0123456789abcdef0123456789abcdef';

export const ISSUED: Extract<RequestOutcome, { kind: 'issued' }> = {
  kind: 'issued', otpId: OTP_ID, ttlSeconds: 300, remainingRequests: 2, replayed: false,
  limits: LIMITS, shadowed: [],
};

export const KNOWN: Extract<StatusOutcome, { kind: 'known' }> = {
  kind: 'known', otpId: OTP_ID, purpose: 'login', status: 'sent', channel: 'console',
  createdAt: Date.UTC(2026, 10, 24, 11, 2, 3) * 1000 + 1,
  expiresAt: Date.UTC(2026, 10, 24, 11, 7, 3) * 1000 + 1,
};

/** The body of the response to KNOWN. */
export const KNOWN_BODY = `{"otp_id":"${OTP_ID}","purpose":"login","status":"sent",`
  + '"channel":"console","created_at":"2026-11-24T11:02:03.000001Z",'
  + '"expires_at":"2026-11-24T11:07:03.000001Z"}';

export type FakeServer = Readonly<{
  http: HttpServer;
  port: number;
  requests: OtpRequest[];
  verifications: OtpVerification[];
  /** The calls of status and cancel, such as `status 0123…` and `cancel 0123…`. */
  calls: string[];
  errors: RequestError[];
}>;

export type FakeOptions = Readonly<{
  request?: (input: OtpRequest) => Promise<RequestOutcome>;
  verify?: (input: OtpVerification) => Promise<VerifyOutcome>;
  status?: (otpId: string) => Promise<StatusOutcome>;
  cancel?: (input: OtpCancellation) => Promise<CancelOutcome>;
  report?: OtpService['report'];
  channelNames?: OtpService['channelNames'];
  unreachable?: OtpService['unreachable'];
  policies?: Policies;
  trustedProxies?: string;
  /** The allowed origins; none by default. */
  origins?: readonly string[];
  /** The allowed names of the host; null, the default, allows all. */
  hosts?: ReadonlySet<string> | null;
  onNotice?: (notice: Notice) => void;
  /** The value of API_KEYS. */
  apiKeys?: string;
  limits?: Partial<HttpLimits>;
  meters?: HttpMeters;
}>;

const started: HttpServer[] = [];

type Support = NonNullable<AdminSources['support']>;

export type AdminOptions = Readonly<{
  failedChecks?: () => Promise<readonly string[]>;
  /** The value of API_KEYS. */
  apiKeys?: string;
  support?: Partial<Support>;
  onRecord?: (record: AccessRecord) => void;
  limits?: Partial<HttpLimits>;
}>;

export const SUPPORT_PAGE = readFileSync(join(ROOT, 'pages/support.html'));

const TIME = '2026-11-24T11:02:03.000001Z';

const USER = {
  outcome: 'known', user_id: 'u', log_user: '39ee374f1cee3776', now: TIME,
  account: { locked: false, wrong_in_a_row: 0, wrong_in_a_row_max: 100, untrusted_locked: false,
    untrusted_wrong_in_a_row_max: 100 },
  purposes: [], devices: [],
};
const UNLOCKED = { outcome: 'unlocked', user_id: 'u', purposes: [] };
const REVOKED = { outcome: 'revoked', user_id: 'u', device: null, revoked_at: TIME };

const NO_SUPPORT: Support = {
  show: async () => ({ data: USER }),
  unlock: async () => ({ data: UNLOCKED }),
  revoke: async () => ({ data: REVOKED }),
  cancel: async () => ({ kind: 'canceled' }),
  policies: createPolicies(), page: SUPPORT_PAGE,
};

/** Starts a server of the admin routes. Its metrics fail when its checks do. */
export async function startAdminServer(
  { failedChecks = async () => [], limits = {}, apiKeys, support, onRecord }: AdminOptions = {},
): Promise<{ port: number }> {
  const metrics = async () => {
    await failedChecks();
    return { text: 'up 1\n', contentType: METRICS_CONTENT_TYPE };
  };
  const http = createHttpServer({
    routes: createAdminRoutes({
      failedChecks, metrics, support: apiKeys === undefined ? null : { ...NO_SUPPORT, ...support },
      supportMeter: new RouteMeter(),
    }),
    trustedProxies: parseTrustedProxies('').proxies,
    browsers: { origins: new Set(), hosts: new Set() },
    apiKeys: apiKeys === undefined ? null : parseApiKeys(apiKeys).apiKeys,
    ...(onRecord === undefined ? {} : { log: logSupport({ wants: () => true, log: onRecord }) }),
    certificate: certificateInUse(),
    onError: () => {},
  }, { ...HTTP_LIMITS, ...limits });
  started.push(http);
  return http.listen(0, '127.0.0.1');
}

/** Starts a server on a free port of this machine that records every call and every error. */
export async function startServer(options: FakeOptions = {}): Promise<FakeServer> {
  const requests: OtpRequest[] = [];
  const verifications: OtpVerification[] = [];
  const calls: string[] = [];
  const errors: RequestError[] = [];
  const { request = async () => ISSUED, status = async () => KNOWN } = options;
  const { verify = async (): Promise<VerifyOutcome> => ({ kind: 'verified', replayed: false }) }
    = options;
  const { cancel = async (): Promise<CancelOutcome> => ({ kind: 'canceled' }) } = options;
  const service: OtpService = {
    request: (input) => { requests.push(input); return request(input); },
    verify: (input) => { verifications.push(input); return verify(input); },
    status: (otpId) => { calls.push(`status ${otpId}`); return status(otpId); },
    cancel: (input) => { calls.push(`cancel ${input.otpId}`); return cancel(input); },
    report: options.report ?? null,
    channelNames: options.channelNames ?? ['console'],
    unreachable: options.unreachable ?? (() => null),
  };
  const http = createHttpServer({
    routes: createRoutes(
      service, options.policies ?? createPolicies(), DESCRIPTION, options.meters,
    ),
    trustedProxies: parseTrustedProxies(options.trustedProxies ?? '').proxies,
    browsers: { origins: new Set(options.origins ?? []), hosts: options.hosts ?? null },
    apiKeys: options.apiKeys === undefined ? null : parseApiKeys(options.apiKeys).apiKeys,
    certificate: certificateInUse(),
    onError: (error) => { errors.push(error); },
    ...(options.onNotice === undefined ? {} : { onNotice: options.onNotice }),
  }, { ...HTTP_LIMITS, ...options.limits });
  started.push(http);
  const { port } = await http.listen(0, '127.0.0.1');
  return { http, port, requests, verifications, calls, errors };
}

/** Stops every server of this file without waiting for connections. */
export async function stopServers(): Promise<void> {
  await Promise.all(started.splice(0).map((http) => http.close(0)));
}

