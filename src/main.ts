#!/usr/bin/env node
/** otpd: the command line, and the one place where all parts are wired together. */
import type { Environment } from './config-reader.ts';
import { readConfig, readEnvironment, readServeConfig } from './config.ts';
import type { Config, ServeConfig } from './config.ts';
import { beginCounting } from './counting.ts';
import type { Counting } from './counting.ts';
import { createDatabase } from './db/create-database.ts';
import { migrate } from './db/migrate.ts';
import type { SessionPool } from './db/pool.ts';
import { Sweeper } from './db/sweep.ts';
import { createRoutes } from './http/router.ts';
import { createHttpServer } from './http/server.ts';
import type { Family } from './db/metrics/family.ts';
import { openAdmin } from './open-admin.ts';
import type { Admin } from './open-admin.ts';
import { createDeliveryLog } from './delivery-log.ts';
import { endOnUncaught } from './last-resort.ts';
import { Log } from './log.ts';
import { openChannels } from './open-channels.ts';
import { ensureSchema, joinDatabase, openDatabase, secretsOf } from './open-database.ts';
import { isOperation, operate } from './operate.ts';
import type { Channel } from './otp/channel.ts';
import { createDelivery } from './otp/delivery/delivery.ts';
import { createPseudonyms, NO_PSEUDONYMS } from './otp/pseudonyms.ts';
import type { Secrets } from './otp/secrets.ts';
import { createOtpService } from './otp/service.ts';
import { createFaultLog, createRequestLog } from './request-log.ts';
import { aborted, listenForStop, Stopped } from './stop-signals.ts';
import { greet, report, say } from './terminal.ts';
import { help, refuse } from './usage.ts';
import { answerCounts } from './worker-metrics.ts';
import { isWorker, startWorkers } from './workers.ts';

/** In-flight requests have this long to be answered when otpd is asked to stop. */
const DRAIN_TIMEOUT_MS = 10_000;

/** Then messages that are being sent have this long, which is enough for one attempt. */
const DELIVERY_TIMEOUT_MS = 9000;

/** And what is left of the log, this long. */
const LOG_TIMEOUT_MS = 2000;

/** A worker that has drained still closes its connections to the database. */
const WORKER_GRACE_MS = DELIVERY_TIMEOUT_MS + LOG_TIMEOUT_MS + 2000;

/** What answers requests: a listener of this process, or workers with one each. */
type Listener = Readonly<{
  port: number;
  isComplete: () => boolean;
  collect: () => Promise<Family[]>;
  failed: Promise<never>;
  close: (timeoutMs: number) => Promise<void>;
}>;

async function serve(config: ServeConfig, stop: AbortSignal): Promise<void> {
  // First, also where workers send: a channel may need what is not installed.
  const channels = await openChannels(config.delivery);
  const log = new Log(config.log);
  endOnUncaught(log);
  try {
    if (isWorker()) await serveAsWorker({ config, channels, log }, stop);
    else await serveAsFirst({ config, channels, log }, stop);
  } finally {
    await log.flush(LOG_TIMEOUT_MS);
  }
}

/** What every process that serves has opened. */
type Opened = Readonly<{ config: ServeConfig; channels: readonly Channel[]; log: Log }>;

async function serveAsFirst(opened: Opened, stop: AbortSignal): Promise<void> {
  const { config, channels, log } = opened;
  const database = await openDatabase(config, stop);
  try {
    await ensureSchema(config, database);
    const secrets = secretsOf(config);
    stop.throwIfAborted();
    const listener = config.workers > 1
      ? await listenWithWorkers(config.workers)
      : await listen(opened, database.pool, secrets);
    let admin: Admin | null = null;
    try {
      admin = await openAdmin(config.admin, {
        ...listener, settings: database.settings, stop, onFault: createFaultLog(log),
      });
      const isPrinting = channels.every(({ name }) => name === 'console');
      greet({ ...config, port: listener.port, isPrinting });
      log.tell('info', 'sys_startup');
      await Promise.race([aborted(stop), database.failed, listener.failed]);
    } finally {
      say('stopping: answering what is in flight');
      log.tell('info', 'sys_shutdown');
      admin?.noteStopping();
      await listener.close(DRAIN_TIMEOUT_MS);
      await admin?.close();
    }
  } finally {
    await database.close();
  }
  say('stopped');
}

/** The first process has opened and migrated the database, and stops this one. */
async function serveAsWorker(opened: Opened, stop: AbortSignal): Promise<void> {
  const { config } = opened;
  const { pool, close } = await joinDatabase(config, stop);
  const listener = await listen(opened, pool, secretsOf(config));
  answerCounts(listener.source);
  await aborted(stop);
  await listener.close(DRAIN_TIMEOUT_MS);
  await close();
  process.disconnect();
}

async function listen(
  { config, channels, log }: Opened,
  pool: SessionPool,
  secrets: Secrets,
): Promise<Listener & Counting> {
  const { policies, trustedProxies, callers, delivery: { words } } = config;
  const sweeper = new Sweeper();
  const counting = beginCounting({
    pool, sweeper, channels, log, isTold: config.admin !== null,
  });
  const names = config.log.isRaw ? NO_PSEUDONYMS : createPseudonyms(secrets.current);
  const parts = { pool, policies, secrets };
  const delivery = createDelivery({
    ...parts, channels, words, counts: counting.delivery, note: createDeliveryLog(log, names),
  });
  const service = createOtpService({ ...parts, delivery, sweeper, counts: counting.otp });
  const routes = createRoutes(service, policies, counting.http);
  const http = createHttpServer({
    routes, trustedProxies, callers,
    onFault: createFaultLog(log), log: createRequestLog(log, names),
  });
  const { port } = await http.listen(config.port, config.host);
  delivery.start();
  const close = async (timeoutMs: number): Promise<void> => {
    await http.close(timeoutMs);
    await delivery.stop(DELIVERY_TIMEOUT_MS);
  };
  const failed = new Promise<never>(() => {});
  return { ...counting, port, failed, isComplete: () => true, close };
}

async function listenWithWorkers(count: number): Promise<Listener> {
  const workers = await startWorkers(count);
  // A worker drains by itself within the bound; ending it comes after.
  return { ...workers, close: (timeoutMs) => workers.stop(timeoutMs + WORKER_GRACE_MS) };
}

async function migrateDatabase(config: Config, stop: AbortSignal): Promise<void> {
  const { settings, pool, close } = await joinDatabase(config, stop);
  try {
    await createDatabase(settings);
    const count = await migrate(pool, say);
    say(count === 0 ? 'the database is up to date' : `${count} schema files applied`);
  } finally {
    await close();
  }
}

type Command = (environment: Environment, stop: AbortSignal) => Promise<void>;

const COMMANDS: ReadonlyMap<string, Command> = new Map<string, Command>([
  ['serve', (environment, stop) => serve(readServeConfig(environment), stop)],
  ['migrate', (environment, stop) => migrateDatabase(readConfig(environment), stop)],
]);

async function main([name = 'help', ...rest]: readonly string[]): Promise<number> {
  if (['help', '--help', '-h'].includes(name)) return help();
  if (isOperation(name)) return operate(name, rest);
  const command = COMMANDS.get(name);
  if (command === undefined) return refuse(`there is no command ${JSON.stringify(name)}`);
  if (rest.length > 0) return refuse(`${name} takes no arguments`);
  try {
    await command(readEnvironment(), listenForStop());
    return 0;
  } catch (error) {
    if (error instanceof Stopped) return 0;
    report(error);
    return 1;
  }
}

process.exitCode = await main(process.argv.slice(2));
