/** The database of a command: the user's own, or the private one, which it starts or joins. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from './config/config.ts';
import { ConfigError } from './config/env-reader.ts';
import { openConnection } from '../db/connection.ts';
import type { DatabaseSettings } from '../db/connection.ts';
import { findRunningServer } from '../db/local/find-running-server.ts';
import { keepLocalServer } from '../db/local/keep-local-server.ts';
import type { KeptServer } from '../db/local/keep-local-server.ts';
import {
  createDatabase, describeNewer, migrate, readSchemaStatus, SchemaError,
} from '../db/migrate.ts';
import { ConnectionPool } from '../db/pool.ts';
import type { Secrets } from '../otp/crypto/secrets.ts';
import { readOrCreateSecretFile } from '../otp/secret-file.ts';
import { print } from './output.ts';

/** A database that can be reached. */
export type Database = Readonly<{
  settings: DatabaseSettings;
  pool: ConnectionPool;
  /** Rejects when a private server cannot be kept running; never resolves. */
  failed: Promise<never>;
  close: () => Promise<void>;
}>;

/**
 * Opens the database for a command that may run beside an otpd that serves: it uses the private
 * server of that one, if there is one. Takes and throws what openDatabase does.
 */
export async function joinDatabase(
  config: Config,
  stop: AbortSignal,
  tell = print,
): Promise<Database> {
  const socketPath = config.database === null
    ? await findRunningServer(config.local.folder) : null;
  if (socketPath === null) return openDatabase(config, stop, tell);
  return openPool(config, localSettings(config, socketPath), null);
}

/** What is told when there is no database to look into, or null when there may be one. */
export function describeAbsent({ database, local }: Config): string | null {
  if (database !== null || existsSync(join(local.folder, 'data'))) return null;
  return `no DB_HOST or DB_SOCKET is set, and there is no private MySQL in ${local.folder} yet`;
}

/**
 * Like joinDatabase, for a command that looks into a database that must be there: it makes none,
 * and migrates none.
 *
 * @throws ConfigError when there is none; SchemaError when migrations are pending, or the
 *   database is newer than this otpd
 */
export async function joinMigrated(
  config: Config,
  stop: AbortSignal,
  tell: (line: string) => void,
): Promise<Database> {
  const absent = describeAbsent(config);
  if (absent !== null) throw new ConfigError(absent);
  const database = await joinDatabase(config, stop, tell);
  try {
    await checkSchema(database.pool);
    return database;
  } catch (error) {
    await database.close();
    throw error;
  }
}

/**
 * Opens the database, starting the private server when no other is set.
 *
 * @param stop breaks off the start of the private server
 * @param tell is told what is done to start it, a line at a time
 * @throws LocalServerError when the private server cannot be had
 */
export async function openDatabase(
  config: Config,
  stop: AbortSignal,
  tell = print,
): Promise<Database> {
  if (config.database !== null) return openPool(config, config.database, null);
  tell('no DB_HOST or DB_SOCKET is set: using a private MySQL');
  const options = { ...config.local, durable: true, say: tell, signal: stop };
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
  const pool = new ConnectionPool(() => openConnection(settings), connections);
  const close = async (): Promise<void> => {
    pool.close();
    await kept?.stop();
  };
  return { settings, pool, close, failed: kept?.failed ?? new Promise<never>(() => {}) };
}

/**
 * Sees to it that the schema is the newest: a private database is migrated, the user's own is
 * theirs to migrate.
 *
 * @throws SchemaError when migrations are pending, or the database is newer than this otpd
 */
export async function ensureSchema(config: Config, { settings, pool }: Database): Promise<void> {
  if (config.database === null) {
    await createDatabase(settings);
    await migrate(pool, print);
    return;
  }
  await checkSchema(pool);
}

async function checkSchema(pool: ConnectionPool): Promise<void> {
  const { pending, isNewer } = await readSchemaStatus(pool);
  if (isNewer) throw new SchemaError(describeNewer());
  if (pending.length === 0) return;
  const list = pending.join(', ');
  throw new SchemaError(`the database lacks ${list}\nrun: npm run migrate (or: otpd migrate)`);
}

/** The secrets of a database: those that are set, or the generated one of the private database. */
export function secretsOf({ secrets, local }: Config): Secrets {
  return secrets ?? readOrCreateSecretFile(join(local.folder, 'secrets'));
}
