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
import type { HttpServer } from './http/server.ts';
import { listenWithWorkers } from './open-workers.ts';
import type { Listener, Requests } from './open-workers.ts';
import { openAdmin } from './open-admin.ts';
import type { Admin } from './open-admin.ts';
import { openChannels } from './open-channels.ts';
import { ensureSchema, joinDatabase, openDatabase, secretsOf } from './open-database.ts';
import { isOperation, operate } from './operate.ts';
import type { Channel } from './otp/channel.ts';
import { createDelivery } from './otp/delivery/delivery.ts';
import type { Secrets } from './otp/secrets.ts';
import { createOtpService } from './otp/service.ts';
import { listenForReload } from './reload.ts';
import type { Reloads } from './reload.ts';
import { listenForRoll, ROLL_ALONE } from './roll.ts';
import { DELIVERY_TIMEOUT_MS, DRAIN_TIMEOUT_MS, RETIRE_TIMEOUT_MS } from './stop-times.ts';
import { aborted, listenForStop, Stopped } from './stop-signals.ts';
import { greet, logDelivery, logFault, logSignal, report, say } from './terminal.ts';
import { CERTIFICATE_VARIABLES, readCertificateAgain } from './tls-settings.ts';
import { help, refuse } from './usage.ts';
import { answerCounts, leave, onDemand } from './worker-messages.ts';
import { isWorker } from './workers.ts';

async function serve(config: ServeConfig, requests: Requests): Promise<number> {
  const { stop, reloads, rolls } = requests;
  // First, also where workers send: a channel may need what is not installed.
  const channels = await openChannels(config.delivery);
  if (isWorker()) return serveAsWorker(config, channels, requests);
  const database = await openDatabase(config, stop);
  let isAnswered = false;
  try {
    await ensureSchema(config, database);
    const secrets = secretsOf(config);
    stop.throwIfAborted();
    const listener = config.workers > 1
      ? await listenWithWorkers(config.workers, requests)
      : await listen(config, channels, database.pool, secrets, reloads);
    if (config.workers === 1) rolls.begin(async () => logSignal(ROLL_ALONE));
    reloads.begin();
    let admin: Admin | null = null;
    try {
      admin = await openAdmin(config.admin, { ...listener, settings: database.settings, stop });
      const isPrinting = channels.every(({ name }) => name === 'console');
      greet({ ...config, port: listener.port, isPrinting });
      await Promise.race([aborted(stop), database.failed, listener.failed]);
    } finally {
      say('stopping: answering what is in flight');
      admin?.noteStopping();
      isAnswered = await listener.close(DRAIN_TIMEOUT_MS);
      await admin?.close();
    }
  } finally {
    await database.close();
  }
  say(isAnswered ? 'stopped' : 'stopped: not all that was in flight could be answered');
  return isAnswered ? 0 : 1;
}

/** The first process has opened and migrated the database, and stops this one. */
async function serveAsWorker(
  config: ServeConfig,
  channels: readonly Channel[],
  { stop, reloads }: Requests,
): Promise<number> {
  const retired = new Promise<void>((resolve) => onDemand('retire', () => resolve()));
  onDemand('reload', () => reloads.request());
  const database = await joinDatabase(config, stop);
  // In a rolling restart this may be a newer otpd than the first process is.
  await ensureSchema(config, database);
  const listener = await listen(config, channels, database.pool, secretsOf(config), reloads);
  answerCounts(listener.source);
  reloads.begin();
  await Promise.race([aborted(stop), retired.then(() => listener.retire(RETIRE_TIMEOUT_MS))]);
  const isAnswered = await listener.close(DRAIN_TIMEOUT_MS);
  await database.close();
  await leave({ isAnswered, families: listener.source() });
  return isAnswered ? 0 : 1;
}

async function listen(
  config: ServeConfig,
  channels: readonly Channel[],
  pool: SessionPool,
  secrets: Secrets,
  reloads: Reloads,
): Promise<Listener & Counting & Pick<HttpServer, 'retire'>> {
  const { policies, trustedProxies, callers, certificate, delivery: { words } } = config;
  const sweeper = new Sweeper();
  const counting = beginCounting({ pool, sweeper, channels, isTold: config.admin !== null });
  const parts = { pool, policies, secrets };
  const delivery = createDelivery({
    ...parts, channels, words, note: logDelivery, counts: counting.delivery,
  });
  const service = createOtpService({ ...parts, delivery, sweeper, counts: counting.otp });
  const routes = createRoutes(service, policies, counting.http);
  const http = createHttpServer({
    routes, trustedProxies, callers, certificate, onFault: logFault,
  });
  if (certificate !== null) {
    reloads.add(CERTIFICATE_VARIABLES,
      () => http.setCertificate(readCertificateAgain(certificate)));
  }
  const { port } = await http.listen(config.port, config.host);
  delivery.start();
  const close = async (timeoutMs: number): Promise<boolean> => {
    const isAnswered = await http.close(timeoutMs);
    await delivery.stop(DELIVERY_TIMEOUT_MS);
    return isAnswered;
  };
  const failed = new Promise<never>(() => {});
  return { ...counting, port, failed, isComplete: () => true, retire: http.retire, close };
}

async function migrateDatabase(config: Config, stop: AbortSignal): Promise<number> {
  const { settings, pool, close } = await joinDatabase(config, stop);
  try {
    await createDatabase(settings);
    const count = await migrate(pool, say);
    say(count === 0 ? 'the database is up to date' : `${count} schema files applied`);
    return 0;
  } finally {
    await close();
  }
}

type Command = (environment: Environment, stop: AbortSignal) => Promise<number>;

const COMMANDS: ReadonlyMap<string, Command> = new Map<string, Command>([
  ['serve', (environment, stop) => {
    const requests = { stop, reloads: listenForReload(logSignal), rolls: listenForRoll() };
    return serve(readServeConfig(environment), requests);
  }],
  ['migrate', (environment, stop) => migrateDatabase(readConfig(environment), stop)],
]);

async function main([name = 'help', ...rest]: readonly string[]): Promise<number> {
  if (['help', '--help', '-h'].includes(name)) return help();
  if (isOperation(name)) return operate(name, rest);
  const command = COMMANDS.get(name);
  if (command === undefined) return refuse(`there is no command ${JSON.stringify(name)}`);
  if (rest.length > 0) return refuse(`${name} takes no arguments`);
  try {
    return await command(readEnvironment(), listenForStop());
  } catch (error) {
    if (error instanceof Stopped) return 0;
    report(error);
    return 1;
  }
}

process.exitCode = await main(process.argv.slice(2));
// The channel to the first process would keep it alive.
if (isWorker()) process.exit();
