/** The second listener: health and metrics, for probes and scrapers. */
import type { Config } from './config/config.ts';
import { DatabaseCheck } from '../db/checks/health.ts';
import { openConnection } from '../db/connection.ts';
import type { DatabaseSettings } from '../db/connection.ts';
import { ConnectionPool } from '../db/pool.ts';
import type { RequestError } from '../http/connection.ts';
import { createAdminRoutes } from '../http/handlers/admin.ts';
import { parseTrustedProxies } from '../http/input/client-ip.ts';
import { ADMIN_LIMITS, createHttpServer } from '../http/server.ts';
import { encodeFamilies, METRICS_CONTENT_TYPE } from '../metrics/families.ts';
import type { Family } from '../metrics/families.ts';
import { printAddress } from './output.ts';

/** What it tells of. */
type AdminDeps = Readonly<{
  settings: DatabaseSettings;
  /** Aborted when otpd is to stop. */
  stop: AbortSignal;
  /** Whether every process that shall answer requests does. */
  hasAllWorkers: () => boolean;
  /** What all of them have counted. */
  collect: () => Promise<readonly Family[]>;
  /** Told of errors behind its answers. */
  onError: (error: RequestError) => void;
}>;

/** It answers until it is closed, also while otpd stops. */
export type AdminServer = Readonly<{
  /** Says that otpd stops for another reason than the signal. */
  markStopping: () => void;
  close: () => Promise<void>;
}>;

/** Every answer takes less, and what asks is a probe. */
const CLOSE_TIMEOUT_MS = 1000;

/** Opens it where it is wanted, and says so. Rejects when it cannot listen. */
export async function openAdminServer(
  address: Config['admin'],
  deps: AdminDeps,
): Promise<AdminServer | null> {
  if (address === null) return null;
  const pool = new ConnectionPool(() => openConnection(deps.settings), 1);
  const check = new DatabaseCheck(pool);
  let isStopping = false;
  const readFailedChecks = async (): Promise<readonly string[]> => {
    const errors = isStopping || deps.stop.aborted ? [] : await check.errors();
    if (isStopping || deps.stop.aborted) return ['stopping'];
    return deps.hasAllWorkers() ? errors : [...errors, 'workers'];
  };
  const readMetrics = async () => ({
    text: encodeFamilies(await deps.collect()), contentType: METRICS_CONTENT_TYPE,
  });
  const http = createHttpServer({
    routes: createAdminRoutes({ failedChecks: readFailedChecks, metrics: readMetrics }),
    trustedProxies: parseTrustedProxies('').proxies,
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
