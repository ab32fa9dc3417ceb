/** The admin listener: health probes, metrics and support, on a port of their own. */
import { revoke, show, unlock } from './cli/support.ts';
import type { ServeConfig } from './config/config.ts';
import { DatabaseCheck } from '../db/checks/health.ts';
import { openConnection } from '../db/connection.ts';
import { ConnectionPool } from '../db/pool.ts';
import type { Primary } from '../db/primary.ts';
import type { RequestError } from '../http/connection.ts';
import type { RequestLog } from '../http/access-log.ts';
import { createAdminRoutes, logSupport } from '../http/handlers/admin.ts';
import type { AdminSources } from '../http/handlers/admin.ts';
import type { ApiKeys } from '../http/input/api-keys.ts';
import { RouteMeter } from '../http/metrics.ts';
import { parseTrustedProxies } from '../http/input/client-ip.ts';
import { ADMIN_LIMITS, createHttpServer } from '../http/server.ts';
import { counter, encodeFamilies, gauge, METRICS_CONTENT_TYPE } from '../metrics/families.ts';
import type { Family } from '../metrics/families.ts';
import { cancelOtps } from '../otp/cancel.ts';
import type { Policies } from '../otp/policy/policy.ts';
import { printAddress } from './output.ts';

type AdminDeps = Readonly<{
  primary: Primary;
  /** The pool of this process, for a check when the server allows no further connection. */
  pool: ConnectionPool;
  stop: AbortSignal;
  /** False while a worker is missing; `/readyz` then names `workers`. */
  hasAllWorkers: () => boolean;
  /** The metrics of all processes, merged. */
  collect: () => Promise<readonly Family[]>;
  /** Receives the error behind a response 500. */
  onError: (error: RequestError) => void;
  log: RequestLog;
  apiKeys: ApiKeys | null;
  policies: Policies;
}>;

/** The listener answers until it is closed, so probes see that otpd is stopping. */
export type AdminServer = Readonly<{
  /** Makes `/readyz` report `stopping` when otpd stops without a signal. */
  markStopping: () => void;
  close: () => Promise<void>;
}>;

/** Every response takes less time, and a probe repeats its request. */
const CLOSE_TIMEOUT_MS = 1000;

/**
 * Starts the listener and prints its address.
 *
 * @returns null without ADMIN_PORT
 * @throws the error of listen(2), such as EADDRINUSE
 */
export async function openAdminServer(
  config: ServeConfig,
  deps: AdminDeps,
): Promise<AdminServer | null> {
  const { admin: address, adminHosts, allowedOrigins } = config;
  if (address === null) return null;
  const { primary } = deps;
  // The check itself asks for the role.
  const pool = new ConnectionPool(async () => openConnection(await primary.find()), 1);
  primary.serve(pool);
  const check = new DatabaseCheck(pool, deps.pool, () => primary.fault);
  let isStopping = false;
  const readFailedChecks = async (): Promise<readonly string[]> => {
    const errors = isStopping || deps.stop.aborted ? [] : await check.errors();
    if (isStopping || deps.stop.aborted) return ['stopping'];
    return deps.hasAllWorkers() ? errors : [...errors, 'workers'];
  };
  const support = openSupport(config, deps);
  const supportMeter = new RouteMeter();
  const readMetrics = async () => {
    const [families, failed] = await Promise.all([deps.collect(), readFailedChecks()]);
    const ready = gauge('otpd_ready', '1 when requests can be served, as /readyz says.',
      Number(failed.length === 0));
    const done = counter('otpd_support_total', 'What was done for users on the admin listener.',
      COUNTED.map((outcome) => [{ outcome }, supportMeter.responses[outcome]!] as const));
    return { text: encodeFamilies([...families, ready, done]), contentType: METRICS_CONTENT_TYPE };
  };
  const http = createHttpServer({
    routes: createAdminRoutes({
      failedChecks: readFailedChecks, metrics: readMetrics, support, supportMeter,
    }),
    trustedProxies: parseTrustedProxies('').proxies,
    browsers: { origins: allowedOrigins, hosts: adminHosts },
    apiKeys: deps.apiKeys,
    onError: deps.onError,
    ...(support === null ? {} : { log: logSupport(deps.log) }),
  }, ADMIN_LIMITS);
  const { port } = await http.listen(address.port, address.host);
  printAddress('health and metrics on', address.host, port);
  const close = async (): Promise<void> => {
    await http.close(CLOSE_TIMEOUT_MS);
    pool.close();
  };
  return { markStopping: () => { isStopping = true; }, close };
}

/** What support did, as the metrics count it. */
const COUNTED = Object.freeze(['unlocked', 'not_locked', 'revoked', 'canceled'] as const);

/** The support commands for API clients; null without API keys. */
function openSupport(
  { supportPage: page, secrets, log: { isRaw } }: ServeConfig,
  { pool, policies }: AdminDeps,
): AdminSources['support'] {
  const deps = { pool, policies, secrets, isRaw };
  return page === null ? null : {
    show: (userId) => show(deps, userId),
    unlock: (userId, purpose) => unlock(deps, userId, purpose),
    revoke: (userId, device) => revoke(deps, userId, device),
    cancel: async (cancellation, _isConnected, answerByMs) =>
      (await cancelOtps(deps, [cancellation], answerByMs))[0]!,
    policies, page,
  };
}
