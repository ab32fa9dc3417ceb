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
type AdminParts = Readonly<{
  settings: DatabaseSettings;
  /** Aborted when otpd is to stop. */
  stop: AbortSignal;
  /** Whether every process that shall answer requests does. */
  isComplete: () => boolean;
  /** What all of them have counted. */
  collect: () => Promise<readonly Family[]>;
  /** Told of errors behind its answers. */
  onFault: (fault: RequestError) => void;
}>;

/** It answers until it is closed, also while otpd stops. */
export type Admin = Readonly<{
  /** Says that otpd stops for another reason than the signal. */
  noteStopping: () => void;
  close: () => Promise<void>;
}>;

/** Every answer takes less, and what asks is a probe. */
const CLOSE_TIMEOUT_MS = 1000;

/** Opens it where it is wanted, and says so. Rejects when it cannot listen. */
export async function openAdmin(
  address: Config['admin'],
  parts: AdminParts,
): Promise<Admin | null> {
  if (address === null) return null;
  const pool = new ConnectionPool(() => openConnection(parts.settings), 1);
  const check = new DatabaseCheck(pool);
  let isStopping = false;
  const failedChecks = async (): Promise<readonly string[]> => {
    const errors = isStopping || parts.stop.aborted ? [] : await check.errors();
    if (isStopping || parts.stop.aborted) return ['stopping'];
    return parts.isComplete() ? errors : [...errors, 'workers'];
  };
  const metrics = async () => ({
    text: encodeFamilies(await parts.collect()), contentType: METRICS_CONTENT_TYPE,
  });
  const http = createHttpServer({
    routes: createAdminRoutes({ failedChecks, metrics }),
    trustedProxies: parseTrustedProxies('').proxies,
    apiKeys: null,
    onError: parts.onFault,
  }, ADMIN_LIMITS);
  const { port } = await http.listen(address.port, address.host);
  printAddress('health and metrics on', address.host, port);
  const close = async (): Promise<void> => {
    await http.close(CLOSE_TIMEOUT_MS);
    pool.close();
  };
  return { noteStopping: () => { isStopping = true; }, close };
}
