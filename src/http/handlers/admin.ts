/** The routes of the admin listener: liveness, readiness and metrics. */
import { RouteMeter } from '../metrics.ts';
import {
  responseForError, errorResponse, methodNotAllowed, SHED_RETRY_SECONDS,
} from '../response.ts';
import type { HttpResponse } from '../response.ts';
import { createOtherRoute, createRoute } from '../routes.ts';
import type { Route, Routes } from '../routes.ts';

type AdminSources = Readonly<{
  /** The names of failed checks; empty when otpd can serve requests. */
  failedChecks: () => Promise<readonly string[]>;
  metrics: () => Promise<Readonly<{ text: string; contentType: string }>>;
}>;

const ALIVE: HttpResponse = Object.freeze({
  code: 'alive', body: '{"status":"alive"}', headers: [], close: false,
});

const READY: HttpResponse = Object.freeze({
  code: 'ready', body: '{"status":"ready"}', headers: [], close: false,
});

/** Requests of these routes are not reported in the metrics. */
export function createAdminRoutes(sources: AdminSources): Routes {
  const uncounted = new RouteMeter();
  const createAdminRoute = (path: string, respond: () => Promise<HttpResponse>): Route => {
    const handle = (): Promise<HttpResponse> =>
      respond().catch((error: unknown) => responseForError(error));
    // No keys: the listener is for this machine or a trusted network.
    const method = { content: null, scopes: [], parseKey: () => null, handle };
    return createRoute(path, uncounted, { GET: method, HEAD: method });
  };
  const routes = [
    createAdminRoute('/livez', async () => ALIVE),
    createAdminRoute('/readyz', async () => readiness(await sources.failedChecks())),
    createAdminRoute('/metrics', async () => {
      const { text, contentType } = await sources.metrics();
      return { code: 'metrics', body: text, contentType, headers: [], close: false };
    }),
  ];
  return {
    fixed: new Map(routes.map((route) => [route.path, route])),
    otp: null,
    report: null,
    other: createOtherRoute(uncounted, '/livez, /readyz and /metrics'),
    now: () => 0,
    connectNotAllowed: methodNotAllowed(['GET', 'HEAD']),
  };
}

function readiness(failedChecks: readonly string[]): HttpResponse {
  if (failedChecks.length === 0) return READY;
  return errorResponse('not_ready', { failed: failedChecks },
    ['Retry-After', String(SHED_RETRY_SECONDS)]);
}
