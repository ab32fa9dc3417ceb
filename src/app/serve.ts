/**
 * `otpd serve`: the composition root. It is the only file that creates the parts of a serving
 * process and connects them; openService shows how.
 */
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { openAdminServer } from './admin-server.ts';
import type { AdminServer } from './admin-server.ts';
import { openChannels } from './channels.ts';
import { checkTestIdentities, rereadApiKeys, rereadPolicies } from './config/config.ts';
import type { Config, ServeConfig } from './config/config.ts';
import { ConfigError } from './config/env-reader.ts';
import { CERTIFICATE_VARIABLES, rereadCertificate } from './config/tls.ts';
import { findClearText } from './config/database.ts';
import { checkBeforeServing, checkSchema, createPrimary } from './database.ts';
import { Unavailable } from '../db/errors.ts';
import { ConnectionPool } from '../db/pool.ts';
import type { Primary } from '../db/primary.ts';
import { Sweeper } from '../db/sweep/sweeper.ts';
import { LiveApiKeys } from '../http/input/api-keys.ts';
import { createRoutes } from '../http/routes.ts';
import { createHttpServer, HTTP_LIMITS } from '../http/server.ts';
import type { HttpServer } from '../http/server.ts';
import {
  createDeliveryLog, createNoticeLog, createPrimaryLog, createSignalLog,
} from './log/event-log.ts';
import { Log, readHostClock } from './log/log.ts';
import { createErrorLog, createRequestLog } from './log/request-log.ts';
import { createProcessMetrics } from './metrics.ts';
import type { ProcessMetrics } from './metrics.ts';
import type { Channel, Templates } from '../otp/channels/channel.ts';
import { choosePseudonyms } from '../otp/crypto/secrets.ts';
import { randomBelow } from '../otp/crypto/random.ts';
import { keptCounts } from '../otp/batch/otps.ts';
import { createDelivery } from '../otp/delivery/delivery.ts';
import { LivePolicies } from '../otp/policy/policy.ts';
import { RETENTION } from '../otp/rules/lifecycle.ts';
import { createOtpService } from '../otp/service.ts';
import { printBanner, print, printError } from './output.ts';
import { listenForReload } from './process/reload.ts';
import { listenForRoll, ROLL_REFUSED } from './process/rolling-restart.ts';
import {
  aborted, DELIVERY_TIMEOUT_MS, DRAIN_TIMEOUT_MS, endOnUncaught, LOG_TIMEOUT_MS, RETIRE_TIMEOUT_MS,
} from './process/shutdown.ts';
import { answerMetrics, sendFinalReport, onMessage } from './process/worker-ipc.ts';
import { isWorker, listenWithWorkers } from './process/workers.ts';
import type { Listener, Controls } from './process/workers.ts';

/** What a primary process and a worker have in common. */
type Context = Controls & Readonly<{
  config: ServeConfig; policies: LivePolicies; templates: Templates;
  channels: readonly Channel[]; log: Log;
  /** Null: the endpoints are public, and a reload does not change that. */
  apiKeys: LiveApiKeys | null;
}>;

/**
 * Serves until a stop is requested.
 *
 * @returns the exit code: 0 when every request in flight was answered
 * @throws the error that prevented the start or ended the service
 */
export async function serve(config: ServeConfig, stop: AbortSignal): Promise<number> {
  const log = new Log(config.log);
  endOnUncaught(log);
  limitHeapGrowth();
  const logSignal = createSignalLog(log);
  let isAnswered = false;
  const controls = {
    stop, logSignal, reloads: listenForReload(logSignal), rolls: listenForRoll(),
  };
  try {
    checkTestIdentities(config, readHostClock());
    // A primary process sends nothing, but a missing package must stop the start there, too.
    const policies = new LivePolicies(config.policies);
    const templates = config.delivery.templates.withLabels(policies);
    const channels = await openChannels(config.delivery, templates);
    const apiKeys = config.apiKeys === null ? null
      : new LiveApiKeys(config.apiKeys, readHostClock);
    const context = { ...controls, config, policies, templates, channels, log, apiKeys };
    // A primary process with workers uses these files for support only.
    if (isWorker() || config.workers === 1 || config.supportPage !== null) reloadFiles(context);
    isAnswered = await (isWorker() ? serveWorker(context) : servePrimary(context));
  } finally {
    await log.flush(LOG_TIMEOUT_MS);
  }
  // The primary process reports for its workers, after the last line of the log.
  if (!isWorker()) {
    print(isAnswered ? 'stopped' : 'stopped: not all requests in flight were answered');
  }
  return isAnswered ? 0 : 1;
}

/**
 * Checks that the ports are free, before slower preparations.
 *
 * @throws ConfigError with the variable of a port that cannot be used
 */
export async function checkPorts({ host, port, admin }: Config): Promise<void> {
  const main = await takePort('PORT', host, port);
  try {
    // The first is still held, because both variables may name one port.
    if (admin !== null) (await takePort('ADMIN_PORT', admin.host, admin.port)).close();
  } finally {
    main.close();
  }
}

async function takePort(name: 'PORT' | 'ADMIN_PORT', host: string, port: number): Promise<Server> {
  const server = createServer().listen(port, host);
  try {
    await once(server, 'listening');
    return server;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const other = name === 'PORT' ? '' : 'PORT or ';
    const remedy = code === 'EADDRINUSE'
      ? `${other}another process listens there; stop it or set ${name}`
      : `set ${name}, or ${name.replace('PORT', 'HOST')} to an address of this machine`;
    throw new ConfigError(`${name}: ${host}:${port} cannot be used (${code}); ${remedy}`);
  }
}

/** Serves alone, or starts the workers that serve. Returns whether all requests were answered. */
async function servePrimary(context: Context): Promise<boolean> {
  const { config, policies, apiKeys, channels, log, stop, reloads, rolls, logSignal } = context;
  await checkPorts(config);
  const database = openDatabase(context);
  const { pool, primary } = database;
  const clearText = findClearText(config.servers);
  if (clearText !== null) printError(`otpd: ${clearText.found}; ${clearText.remedy}`);
  const { list: tests } = config.policies.testIdentities;
  if (tests.length > 0) {
    printError(`otpd: POLICY_FILE has test identities with fixed codes (${tests.length});`
      + ' otpd doctor names them');
  }
  let isAnswered = false;
  try {
    await checkBeforeServing(config, primary, pool);
    stop.throwIfAborted();
    void primary.watch();
    const listener = config.workers > 1
      ? await listenWithWorkers(config.workers, log.relay, context)
      : await openService(context, database);
    if (config.workers === 1) rolls.start(async () => logSignal(ROLL_REFUSED));
    reloads.start();
    let admin: AdminServer | null = null;
    try {
      admin = await openAdminServer(config, {
        ...listener, ...database, stop, onError: createErrorLog(log),
        log: createRequestLog(log, choosePseudonyms(config.secrets.current, config.log.isRaw)),
        apiKeys, policies,
      });
      const printsCodes = channels.every(({ name }) => name === 'console');
      printBanner({ ...config, port: listener.port, printsCodes });
      log.log('info', 'sys_startup');
      await Promise.race([aborted(stop), listener.failed]);
    } finally {
      print('stopping: answering the requests in flight');
      log.log('info', 'sys_shutdown');
      admin?.markStopping();
      isAnswered = await listener.close(DRAIN_TIMEOUT_MS);
      await admin?.close();
    }
  } finally {
    primary.stop();
    pool.close();
  }
  return isAnswered;
}

type Database = Readonly<{ pool: ConnectionPool; primary: Primary }>;

function openDatabase({ config, log }: Context): Database {
  const primary = createPrimary(config, createPrimaryLog(log));
  // A primary process with workers uses a connection at its start, and for support.
  const isAnswering = isWorker() || config.workers === 1;
  const pool = new ConnectionPool(() => primary.open(), isAnswering ? config.connections : 1);
  primary.serve(pool);
  return { pool, primary };
}

/** Serves as one worker of a primary process. */
async function serveWorker(context: Context): Promise<boolean> {
  const { stop, reloads } = context;
  const retired = new Promise<void>((resolve) => onMessage('retire', () => resolve()));
  onMessage('reload', () => reloads.request());
  const database = openDatabase(context);
  const { pool, primary } = database;
  // In a rolling restart, the worker may be a newer otpd than the primary process.
  await waitForSchema(pool, stop);
  void primary.watch();
  const listener = await openService(context, database);
  answerMetrics(listener.source);
  reloads.start();
  await Promise.race([aborted(stop), retired.then(() => listener.retire(RETIRE_TIMEOUT_MS))]);
  const isAnswered = await listener.close(DRAIN_TIMEOUT_MS);
  primary.stop();
  pool.close();
  await sendFinalReport({ isAnswered, families: listener.source() });
  return isAnswered;
}

/**
 * Without a pause, the workers that replace each other while MySQL is away would count as a crash
 * loop. At this rate a worker lives for half a minute.
 */
const ATTEMPT_PAUSE_MS = 500;
const ATTEMPTS_MAX = 60;

/** For a worker: its primary process has seen the database, so it waits for one that is away. */
async function waitForSchema(pool: ConnectionPool, stop: AbortSignal): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    stop.throwIfAborted();
    try {
      return await checkSchema(pool);
    } catch (error) {
      if (!(error instanceof Unavailable) || attempt === ATTEMPTS_MAX) throw error;
    }
    await delay(ATTEMPT_PAUSE_MS, null, { signal: stop }).catch(() => {});
  }
}

/** Creates the service from storage to listener, and starts it. */
async function openService(
  { config, policies, templates, channels, log, apiKeys, reloads }: Context,
  { pool, primary }: Database,
): Promise<Listener & ProcessMetrics & Pick<HttpServer, 'retire'>> {
  const { trustedProxies, certificate, secrets, description } = config;
  const pseudonyms = choosePseudonyms(secrets.current, config.log.isRaw);
  const sweeper = new Sweeper({
    retention: RETENTION, randomBelow, counts: keptCounts(secrets, policies),
  });
  const metrics = createProcessMetrics({
    pool, primary, sweeper, channels, log, readHostClock, isExposed: config.admin !== null,
  });
  const delivery = createDelivery({
    pool, policies, secrets, channels, templates,
    counts: metrics.delivery, onEvent: createDeliveryLog(log, pseudonyms),
  });
  const service = createOtpService({
    pool, policies, secrets, delivery, sweeper, counts: metrics.otp,
  });
  const http = createHttpServer({
    routes: createRoutes(service, policies, description, metrics.http),
    trustedProxies, apiKeys, certificate,
    browsers: { origins: config.allowedOrigins, hosts: null },
    log: createRequestLog(log, pseudonyms), onError: createErrorLog(log),
    onNotice: createNoticeLog(log),
  }, { ...HTTP_LIMITS, keepAliveTimeoutMs: config.keepAliveSeconds * 1000 });
  if (certificate !== null) {
    reloads.add(CERTIFICATE_VARIABLES,
      () => http.setCertificate(rereadCertificate(certificate)));
  }
  const { port } = await http.listen(config.port, config.host);
  delivery.start();
  const close = async (timeoutMs: number): Promise<boolean> => {
    const isAnswered = await http.close(timeoutMs);
    await delivery.stop(DELIVERY_TIMEOUT_MS);
    return isAnswered;
  };
  const failed = new Promise<never>(() => {});
  return { ...metrics, port, failed, hasAllWorkers: () => true, retire: http.retire, close };
}

/** A reload replaces the policies and the API keys only with a file that has no error. */
function reloadFiles({ policies, apiKeys, config, reloads }: Context): void {
  const { policyFile, apiKeysFile, delivery } = config;
  if (policyFile !== null) {
    reloads.add('POLICY_FILE', () =>
      policies.replace(rereadPolicies(policyFile, delivery.templates, readHostClock())));
  }
  if (apiKeys !== null && apiKeysFile !== null) {
    reloads.add('API_KEYS_FILE', () => apiKeys.replace(rereadApiKeys(apiKeysFile)));
  }
}

/**
 * V8 collects the old generation when it has grown by this share of its live objects. By default V8
 * lets it grow to several times their size. Measured with 256 connections: 100 % needs 142 MB of
 * resident memory instead of 169 and 2 % of the time of Node.js; 15 % needs 130 MB, and more than
 * 10 % of the time.
 */
const GROWTH_PERCENT = 80;

/**
 * Limits the growth of the heap. Called once, when a process begins to serve.
 *
 * Uses a V8 flag, which Node.js does not document. Changing this flag after the start is safe,
 * because V8 reads its value after every collection. Checked on Node.js 20.20, 22.23 and 24.21: the
 * flag exists, and lowers the peak of the heap.
 */
export function limitHeapGrowth(): void {
  setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
}
