/**
 * The routes of the admin listener: liveness, readiness and metrics; and with API keys what support
 * does for a user, and a page for it (docs/support.md).
 */
import type { Buffer } from 'node:buffer';
import { hash } from 'node:crypto';
import type { RequestLog } from '../access-log.ts';
import { RouteMeter } from '../metrics.ts';
import {
  ADMIN_CODES, responseForError, errorResponse, methodNotAllowed, SHED_RETRY_SECONDS,
} from '../response.ts';
import type { HttpResponse } from '../response.ts';
import { createOtherRoute, createRoute } from '../routes.ts';
import type { Route, Routes } from '../routes.ts';
import { createCancelHandler, createUserHandlers, userPathOf } from './otp.ts';
import type { Support } from './otp.ts';

export type AdminSources = Readonly<{
  /** The names of failed checks; empty when otpd can serve requests. */
  failedChecks: () => Promise<readonly string[]>;
  metrics: () => Promise<Readonly<{ text: string; contentType: string }>>;
  /** Null without API keys: the paths of support do not exist. */
  support: Support & Readonly<{ page: Buffer }> | null;
  supportMeter: RouteMeter;
}>;

const ALIVE: HttpResponse = Object.freeze({
  code: 'alive', body: '{"status":"alive"}', headers: [], close: false,
});

const READY: HttpResponse = Object.freeze({
  code: 'ready', body: '{"status":"ready"}', headers: [], close: false,
});

/** Requests of these routes are not reported in the metrics. */
export function createAdminRoutes(sources: AdminSources): Routes {
  const { support, supportMeter } = sources;
  const uncounted = new RouteMeter();
  const createAdminRoute = (path: string, respond: () => Promise<HttpResponse>): Route => {
    const handle = (): Promise<HttpResponse> =>
      respond().catch((error: unknown) => responseForError(error));
    // No keys: the listener is for this machine or a trusted network.
    const method = { content: null, scopes: null, parseKey: () => null, handle };
    return createRoute(path, uncounted, { GET: method, HEAD: method });
  };
  const page = support === null ? [] : [pageResponse(support.page)];
  const routes = [
    createAdminRoute('/livez', async () => ALIVE),
    createAdminRoute('/readyz', async () => readiness(await sources.failedChecks())),
    createAdminRoute('/metrics', async () => metricsResponse(await sources.metrics())),
    ...page.map((response) => createAdminRoute('/support', async () => response)),
  ];
  return {
    fixed: new Map(routes.map((route) => [route.path, route])),
    otp: support === null ? null
      : createRoute('/otp/{otp_id}', supportMeter, { DELETE: createCancelHandler(support) }),
    report: null,
    user: support === null ? null : createUserRoutes(support, supportMeter),
    other: createOtherRoute(uncounted, support === null ? PATHS : SUPPORT_PATHS),
    now: () => 0,
    connectNotAllowed: methodNotAllowed(['GET', 'HEAD']),
  };
}

const PATHS = '/livez, /readyz and /metrics';
const SUPPORT_PATHS = '/livez, /readyz, /metrics, /support, /users/ with a percent-encoded user_id,'
  + ' also followed by /unlock or /revoke, and /otp/ with an otp_id';

function metricsResponse(
  { text, contentType }: Awaited<ReturnType<AdminSources['metrics']>>,
): HttpResponse {
  return { code: 'metrics', body: text, contentType, headers: [], close: false };
}

function readiness(failedChecks: readonly string[]): HttpResponse {
  if (failedChecks.length === 0) return READY;
  return errorResponse('not_ready', { failed: failedChecks },
    ['Retry-After', String(SHED_RETRY_SECONDS)]);
}

/** The page may run its own script, call this listener, and nothing else. */
function pageResponse(page: Buffer): HttpResponse {
  const hashOf = (tag: string): string => {
    const [, text = ''] = new RegExp(`<${tag}>([^]*?)</${tag}>`).exec(page.toString('utf8')) ?? [];
    return `'sha256-${hash('sha256', text, 'base64')}'`;
  };
  const policy = `default-src 'none'; script-src ${hashOf('script')}; style-src ${hashOf('style')};`
    + " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none';"
    + " frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
  return Object.freeze({
    code: 'page', body: page, contentType: 'text/html; charset=utf-8',
    policy, headers: [], close: false,
  });
}

function createUserRoutes(support: Support, meter: RouteMeter): NonNullable<Routes['user']> {
  const { show, unlock, revoke } = createUserHandlers(support);
  const routes = new Map([
    ['', createRoute('/users/{user_id}', meter, { GET: show, HEAD: show })],
    ['/unlock', createRoute('/users/{user_id}/unlock', meter, { POST: unlock })],
    ['/revoke', createRoute('/users/{user_id}/revoke', meter, { POST: revoke })],
  ]);
  return (path) => {
    const found = userPathOf(path);
    return found === null ? null : routes.get(found.operation)!;
  };
}

/** Logs what support does and what fails; probes and scrapes are not logged. */
export function logSupport(log: RequestLog): RequestLog {
  const unlogged: ReadonlySet<string | null> = new Set(ADMIN_CODES);
  return {
    wants: (code) => !unlogged.has(code) && log.wants(code),
    log: (record) => {
      const isSupport = /^\/(?:users|otp)\//.test(record.route);
      if (isSupport || record.error !== undefined) log.log(record);
    },
  };
}
