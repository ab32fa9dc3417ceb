#!/usr/bin/env node
/** otpd: the command line, and the one place where all parts are wired together. */
import { join } from 'node:path';
import { ConfigError, readConfig, readEnvironment } from './config.ts';
import type { Config } from './config.ts';
import { createDatabase } from './db/create-database.ts';
import { findRunningServer } from './db/local/find-running-server.ts';
import { keepLocalServer } from './db/local/keep-local-server.ts';
import type { KeptServer } from './db/local/keep-local-server.ts';
import { describeNewer, migrate, readSchemaStatus, SchemaError } from './db/migrate.ts';
import { SessionPool } from './db/pool.ts';
import { openSession } from './db/session.ts';
import type { DatabaseSettings } from './db/session.ts';
import { Sweeper } from './db/sweep.ts';
import { createHttpServer } from './http/server.ts';
import { createConsoleChannel } from './otp/console-channel.ts';
import { readOrCreateSecretFile } from './otp/secret-file.ts';
import { createOtpService } from './otp/service.ts';
import { unlockPair } from './otp/unlock.ts';
import { listenForStop, Stopped } from './stop-signals.ts';
import { greet, logFault, report, say } from './terminal.ts';

const USAGE = `usage: otpd COMMAND
  serve                  answer requests, with a private MySQL unless DB_HOST or DB_SOCKET is set
  migrate                bring the database to the schema of this otpd
  unlock USER PURPOSE    end a lock and forget the wrong attempts
  help                   print this
Every variable is explained in .env.example.`;

/** In-flight requests have this long to be answered when otpd is asked to stop. */
const DRAIN_TIMEOUT_MS = 10_000;

type Database = Readonly<{
  settings: DatabaseSettings;
  pool: SessionPool;
  failed: Promise<never>;
  close: () => Promise<void>;
}>;

async function serve(config: Config, stop: AbortSignal): Promise<void> {
  const database = await openDatabase(config, stop);
  try {
    await ensureSchema(config, database);
    const { local, policies, trustedProxies } = config;
    const secrets = config.secrets ?? readOrCreateSecretFile(join(local.folder, 'secrets'));
    const deliver = createConsoleChannel(say);
    const { pool } = database;
    const service = createOtpService({
      pool, policies, secrets, deliver, sweeper: new Sweeper(),
    });
    const http = createHttpServer({ service, policies, trustedProxies, onFault: logFault });
    stop.throwIfAborted();
    const { port } = await http.listen(config.port, config.host);
    greet(config.host, port);
    try {
      await Promise.race([aborted(stop), database.failed]);
    } finally {
      say('stopping: answering what is in flight');
      await http.close(DRAIN_TIMEOUT_MS);
    }
  } finally {
    await database.close();
  }
  say('stopped');
}

/** For commands that may run beside an otpd that serves: they use its private server. */
async function joinDatabase(config: Config, stop: AbortSignal): Promise<Database> {
  const socketPath = config.database === null
    ? await findRunningServer(config.local.folder) : null;
  if (socketPath === null) return openDatabase(config, stop);
  return openPool(config, localSettings(config, socketPath), null);
}

async function openDatabase(config: Config, stop: AbortSignal): Promise<Database> {
  if (config.database !== null) return openPool(config, config.database, null);
  say('no DB_HOST or DB_SOCKET is set: using a private MySQL');
  const options = { ...config.local, durable: true, say, signal: stop };
  const kept = await keepLocalServer(options);
  return openPool(config, localSettings(config, kept.socketPath), kept);
}

function localSettings({ databaseName }: Config, socketPath: string): DatabaseSettings {
  return {
    socketPath,
    host: null,
    port: 0,
    user: 'root',
    password: '',
    database: databaseName,
    tlsCaFile: null,
  };
}

function openPool(
  { connections }: Config,
  settings: DatabaseSettings,
  kept: KeptServer | null,
): Database {
  const pool = new SessionPool(() => openSession(settings), connections);
  const close = async (): Promise<void> => {
    pool.close();
    await kept?.stop();
  };
  return { settings, pool, close, failed: kept?.failed ?? new Promise<never>(() => {}) };
}

/** A private database is migrated; the user's own is theirs to migrate. */
async function ensureSchema(config: Config, { settings, pool }: Database): Promise<void> {
  if (config.database === null) {
    await createDatabase(settings);
    await migrate(pool, say);
    return;
  }
  const { pending, isNewer } = await readSchemaStatus(pool);
  if (isNewer) throw new SchemaError(describeNewer());
  if (pending.length === 0) return;
  const list = pending.join(', ');
  throw new SchemaError(`the database lacks ${list}\nrun: npm run migrate (or: otpd migrate)`);
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

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
}

const COMMANDS = new Map([['serve', serve], ['migrate', migrateDatabase], ['unlock', unlock]]);

async function main([name = 'help', ...rest]: readonly string[]): Promise<number> {
  const command = COMMANDS.get(name);
  if (command === undefined) {
    say(USAGE);
    return name === 'help' ? 0 : 1;
  }
  try {
    await command(readConfig(readEnvironment()), listenForStop(), rest);
    return 0;
  } catch (error) {
    if (error instanceof Stopped) return 0;
    report(error);
    return 1;
  }
}

process.exitCode = await main(process.argv.slice(2));
