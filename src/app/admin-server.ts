/** The admin listener: health probes and metrics, on a port of their own. */
import type { Config } from './config/config.ts';
import { DatabaseCheck } from '../db/checks/health.ts';
import { openConnection } from '../db/connection.ts';
import { ConnectionPool } from '../db/pool.ts';
import type { Primary } from '../db/primary.ts';
import type { RequestError } from '../http/connection.ts';
import { createAdminRoutes } from '../http/handlers/admin.ts';
import { parseTrustedProxies } from '../http/input/client-ip.ts';
import { ADMIN_LIMITS, createHttpServer } from '../http/server.ts';
import { encodeFamilies, gauge, METRICS_CONTENT_TYPE } from '../metrics/families.ts';
import type { Family } from '../metrics/families.ts';
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
  { admin: address, adminHosts, allowedOrigins }: Config,
  deps: AdminDeps,
): Promise<AdminServer | null> {
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
  const readMetrics = async () => {
    const [families, failed] = await Promise.all([deps.collect(), readFailedChecks()]);
    const ready = gauge('otpd_ready', '1 when requests can be served, as /readyz says.',
      Number(failed.length === 0));
    return { text: encodeFamilies([...families, ready]), contentType: METRICS_CONTENT_TYPE };
  };
  const http = createHttpServer({
    routes: createAdminRoutes({ failedChecks: readFailedChecks, metrics: readMetrics }),
    trustedProxies: parseTrustedProxies('').proxies,
    browsers: { origins: allowedOrigins, hosts: adminHosts },
    apiKeys: null,
    onError: deps.onError,
  }, ADMIN_LIMITS);
  const { port } = await http.listen(address.port, address.host);
  printAddress('health and metrics on', address.host, port);
  const close = async (): Promise<void> => {
    await http.close(CLOSE_TIMEOUT_MS);
    pool.close();
  };
  return { markStopping: () => { isStopping = true; }, close };
}
