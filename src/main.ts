#!/usr/bin/env node
/** otpd: the command line, and the one place where all parts are wired together. */
import { join } from 'node:path';
import { ConfigError } from './config-reader.ts';
import type { Environment } from './config-reader.ts';
import { readConfig, readEnvironment, readServeConfig } from './config.ts';
import type { Config, ServeConfig } from './config.ts';
import { createDatabase } from './db/create-database.ts';
import { migrate } from './db/migrate.ts';
import type { SessionPool } from './db/pool.ts';
import { Sweeper } from './db/sweep.ts';
import { createHttpServer } from './http/server.ts';
import { describeNewKey } from './new-key.ts';
import { openChannels } from './open-channels.ts';
import { ensureSchema, joinDatabase, openDatabase } from './open-database.ts';
import type { Channel } from './otp/channel.ts';
import { createDelivery } from './otp/delivery/delivery.ts';
import { readOrCreateSecretFile } from './otp/secret-file.ts';
import type { Secrets } from './otp/secrets.ts';
import { createOtpService } from './otp/service.ts';
import { unlockPair } from './otp/unlock.ts';
import { listenForStop, Stopped } from './stop-signals.ts';
import { greet, logDelivery, logFault, report, say } from './terminal.ts';
import { isWorker, startWorkers } from './workers.ts';

const USAGE = `usage: otpd COMMAND
  serve                  answer requests, with a private MySQL unless DB_HOST or DB_SOCKET is set
  migrate                bring the database to the schema of this otpd
  unlock USER PURPOSE    end a lock and forget the wrong attempts
  key new NAME [SCOPES]  make a key for a caller, of request+verify+read unless told
  help                   print this
Every variable is explained in .env.example.`;

/** In-flight requests have this long to be answered when otpd is asked to stop. */
const DRAIN_TIMEOUT_MS = 10_000;

/** Then messages that are being sent have this long, which is enough for one attempt. */
const DELIVERY_TIMEOUT_MS = 9000;

/** A worker that has drained still closes its connections to the database. */
const WORKER_GRACE_MS = DELIVERY_TIMEOUT_MS + 2000;

/** What answers requests: a listener of this process, or workers with one each. */
type Listener = Readonly<{
  port: number;
  failed: Promise<never>;
  close: (timeoutMs: number) => Promise<void>;
}>;

async function serve(config: ServeConfig, stop: AbortSignal): Promise<void> {
  // First, also where workers send: a channel may need what is not installed.
  const channels = await openChannels(config.delivery);
  if (isWorker()) return serveAsWorker(config, channels, stop);
  const database = await openDatabase(config, stop);
  try {
    await ensureSchema(config, database);
    const secrets = readSecrets(config);
    stop.throwIfAborted();
    const listener = config.workers > 1
      ? await listenWithWorkers(config.workers)
      : await listen(config, channels, database.pool, secrets);
    greet({ ...config, port: listener.port, isPrinting: channels.every(isConsole) });
    try {
      await Promise.race([aborted(stop), database.failed, listener.failed]);
    } finally {
      say('stopping: answering what is in flight');
      await listener.close(DRAIN_TIMEOUT_MS);
    }
  } finally {
    await database.close();
  }
  say('stopped');
}

/** The first process has opened and migrated the database, and stops this one. */
async function serveAsWorker(
  config: ServeConfig,
  channels: readonly Channel[],
  stop: AbortSignal,
): Promise<void> {
  const { pool, close } = await joinDatabase(config, stop);
  const listener = await listen(config, channels, pool, readSecrets(config));
  await aborted(stop);
  await listener.close(DRAIN_TIMEOUT_MS);
  await close();
  process.disconnect();
}

function readSecrets({ secrets, local }: Config): Secrets {
  return secrets ?? readOrCreateSecretFile(join(local.folder, 'secrets'));
}

async function listen(
  config: ServeConfig,
  channels: readonly Channel[],
  pool: SessionPool,
  secrets: Secrets,
): Promise<Listener> {
  const { policies, trustedProxies, callers, delivery: { words } } = config;
  const delivery = createDelivery({ pool, policies, secrets, channels, words, note: logDelivery });
  const service = createOtpService({ pool, policies, secrets, delivery, sweeper: new Sweeper() });
  const http = createHttpServer({ service, policies, trustedProxies, callers, onFault: logFault });
  const { port } = await http.listen(config.port, config.host);
  delivery.start();
  const close = async (timeoutMs: number): Promise<void> => {
    await http.close(timeoutMs);
    await delivery.stop(DELIVERY_TIMEOUT_MS);
  };
  return { port, failed: new Promise<never>(() => {}), close };
}

async function listenWithWorkers(count: number): Promise<Listener> {
  const { port, failed, stop } = await startWorkers(count);
  // A worker drains by itself within the bound; ending it comes after.
  return { port, failed, close: (timeoutMs) => stop(timeoutMs + WORKER_GRACE_MS) };
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

async function unlock(
  config: Config,
  stop: AbortSignal,
  [userId, purpose]: readonly string[],
): Promise<void> {
  if (userId === undefined || purpose === undefined) throw new ConfigError(USAGE);
  const { pool, close } = await joinDatabase(config, stop);
  try {
    const isKnown = await unlockPair(pool, { userId, purpose });
    if (!isKnown) throw new ConfigError('nothing is known of this user and purpose');
    say('unlocked; the user can request a new code');
  } finally {
    await close();
  }
}

function printNewKey(parameters: readonly string[]): void {
  const text = describeNewKey(parameters);
  if (text === null) throw new ConfigError(USAGE);
  say(text);
}

function isConsole({ name }: Channel): boolean {
  return name === 'console';
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
}

type Command = (
  environment: Environment,
  stop: AbortSignal,
  rest: readonly string[],
) => Promise<void>;

const COMMANDS: ReadonlyMap<string, Command> = new Map<string, Command>([
  ['serve', (environment, stop) => serve(readServeConfig(environment), stop)],
  ['migrate', (environment, stop) => migrateDatabase(readConfig(environment), stop)],
  ['unlock', (environment, stop, rest) => unlock(readConfig(environment), stop, rest)],
  ['key', async (_environment, _stop, rest) => printNewKey(rest)],
]);

async function main([name = 'help', ...rest]: readonly string[]): Promise<number> {
  const command = COMMANDS.get(name);
  if (command === undefined) {
    say(USAGE);
    return name === 'help' ? 0 : 1;
  }
  try {
    await command(readEnvironment(), listenForStop(), rest);
    return 0;
  } catch (error) {
    if (error instanceof Stopped) return 0;
    report(error);
    return 1;
  }
}

process.exitCode = await main(process.argv.slice(2));
