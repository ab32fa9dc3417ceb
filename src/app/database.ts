/** Opens and migrates the database of a command, and checks that server and schema fit. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from './config/config.ts';
import { findWriteObstacles, findWriteRefusal } from '../db/checks/health.ts';
import type { WriteObstacle } from '../db/checks/health.ts';
import { requireMysql } from '../db/checks/inspect.ts';
import { Unavailable } from '../db/errors.ts';
import {
  createDatabase, migrate, readSchemaStatus, SchemaError, throwOnConflict,
} from '../db/migrate.ts';
import { ConnectionPool } from '../db/pool.ts';
import { openConnection } from '../db/connection.ts';
import { NO_SETUP_SQL, SESSION_SETUP_SQL } from '../db/session.ts';
import { print } from './output.ts';

/** The pool connects on first use, and the caller closes it. */
export function openPool({ database, connections }: Config): ConnectionPool {
  return new ConnectionPool(() => openConnection(database), connections);
}

/**
 * Checks the server before any other statement, on a connection that any server can set up.
 *
 * @param refused the obstacles to writing with which the command cannot do its work
 * @throws Unavailable when the server is not MySQL, or has such an obstacle
 */
async function checkServer(
  { database }: Config,
  refused: readonly WriteObstacle['check'][],
): Promise<void> {
  const connection = await openConnection({ ...database, database: null }, NO_SETUP_SQL);
  try {
    await requireMysql(connection);
    await connection.run('setUpSession', SESSION_SETUP_SQL, []);
    for (const { check, found, remedy } of await findWriteObstacles(connection)) {
      if (refused.includes(check)) throw new Unavailable(found, { remedy });
    }
  } finally {
    connection.destroy();
  }
}

/**
 * Checks that `serve` can work: the server, the schema, and that a write commits.
 *
 * @throws Unavailable, SchemaError
 */
export async function checkBeforeServing(config: Config, pool: ConnectionPool): Promise<void> {
  await checkServer(config, ['read_only', 'binlog_format']);
  await checkSchema(pool);
  const refusal = await findWriteRefusal(pool);
  if (refusal !== null) throw new Unavailable(refusal.message, { cause: refusal });
}

/**
 * Opens a pool on a database whose schema is current.
 *
 * @throws Unavailable, SchemaError as checkSchema does, after closing the pool
 */
export async function openMigrated(config: Config): Promise<ConnectionPool> {
  await checkServer(config, []);
  const pool = openPool(config);
  try {
    await checkSchema(pool);
    return pool;
  } catch (error) {
    pool.close();
    throw error;
  }
}

/**
 * Checks that the database has exactly the schema files of this otpd.
 *
 * @throws SchemaError when migrations are pending, or the database has an unknown schema file
 */
async function checkSchema(pool: ConnectionPool): Promise<void> {
  const status = await readSchemaStatus(pool);
  throwOnConflict(status);
  if (status.pending.length === 0) return;
  throw new SchemaError(`the database lacks ${status.pending.join(', ')}\nrun: npm run migrate`
    + ' (or: otpd migrate)');
}

/**
 * Without a pause, the workers that replace each other while MySQL is away would count as a crash
 * loop. At this rate a worker lives for half a minute.
 */
const ATTEMPT_PAUSE_MS = 500;
const ATTEMPTS_MAX = 60;

/** For a worker: its primary process has seen the database, so it waits for one that is away. */
export async function waitForSchema(pool: ConnectionPool, stop: AbortSignal): Promise<void> {
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

/** `otpd migrate`: creates the database unless it exists, and applies the missing schema files. */
export async function migrateDatabase(config: Config): Promise<number> {
  // A read-only server may be up to date.
  await checkServer(config, ['binlog_format']);
  const pool = openPool(config);
  try {
    await createDatabase(config.database);
    const count = await migrate(pool, print);
    print(count === 0 ? 'the database is up to date' : `${count} schema files applied`);
    return 0;
  } finally {
    pool.close();
  }
}
