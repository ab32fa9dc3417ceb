/** Opens and migrates the database of a command, and checks that server and schema fit. */
import type { Config } from './config/config.ts';
import { findWriteObstacles, findWriteRefusal, isInGroup } from '../db/checks/health.ts';
import type { WriteObstacle } from '../db/checks/health.ts';
import { readHostVariables, requireMysql } from '../db/checks/inspect.ts';
import { NO_GROUP, RUN_MIGRATE, Unavailable } from '../db/errors.ts';
import {
  createDatabase, migrate, readSchemaStatus, SchemaError, throwOnConflict,
} from '../db/migrate.ts';
import { ConnectionPool } from '../db/pool.ts';
import { openConnection } from '../db/connection.ts';
import type { DatabaseSettings } from '../db/connection.ts';
import { Primary } from '../db/primary.ts';
import type { PrimaryEvent } from '../db/primary.ts';
import { NO_SETUP_SQL, SESSION_SETUP_SQL, STRICT_SETUP_SQL } from '../db/session.ts';
import { print } from './output.ts';

function setUpSqlOf({ consistency }: Config): string {
  return consistency === 'before' ? STRICT_SETUP_SQL : SESSION_SETUP_SQL;
}

export function createPrimary(config: Config, onEvent?: (event: PrimaryEvent) => void): Primary {
  return new Primary(config.servers, setUpSqlOf(config), onEvent);
}

/** The pool of a command connects on first use. A single host may be read-only. */
export function openPool(config: Config, primary: Primary): ConnectionPool {
  const [only, ...others] = config.servers;
  const open = others.length === 0 ? () => openConnection(only!, setUpSqlOf(config))
    : () => primary.open();
  return new ConnectionPool(open, config.connections);
}

/**
 * Checks the server before any other statement, on a connection that any server can set up.
 *
 * @param refused the obstacles to writing with which the command cannot do its work
 * @throws Unavailable when the server is not MySQL, or has such an obstacle
 */
async function checkServer(
  settings: DatabaseSettings,
  refused: readonly WriteObstacle['check'][],
  needsGroup = false,
): Promise<void> {
  const connection = await openConnection({ ...settings, database: null }, NO_SETUP_SQL);
  try {
    await requireMysql(connection);
    await connection.run('setUpSession', SESSION_SETUP_SQL, []);
    for (const { check, found, remedy } of await findWriteObstacles(connection)) {
      if (refused.includes(check)) throw new Unavailable(found, { remedy });
    }
    if (needsGroup && !isInGroup(await readHostVariables(connection))) {
      throw new Unavailable(NO_GROUP.found, NO_GROUP);
    }
  } finally {
    connection.destroy();
  }
}

/** Checks that `serve` can work: the server, the schema, and that a write commits. */
export async function checkBeforeServing(
  { consistency }: Config,
  primary: Primary,
  pool: ConnectionPool,
): Promise<void> {
  const settings = await primary.find();
  await checkServer(settings, ['read_only', 'binlog_format'], consistency === 'before');
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
  const primary = createPrimary(config);
  await checkServer(await primary.find(), []);
  const pool = openPool(config, primary);
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
export async function checkSchema(pool: ConnectionPool): Promise<void> {
  const status = await readSchemaStatus(pool);
  throwOnConflict(status);
  if (status.pending.length === 0) return;
  throw new SchemaError(`the database lacks ${status.pending.join(', ')}\n${RUN_MIGRATE}`);
}

/** `otpd migrate`: creates the database unless it exists, and applies the missing schema files. */
export async function migrateDatabase(config: Config): Promise<number> {
  const primary = createPrimary(config);
  const settings = await primary.find();
  // A read-only server may be up to date.
  await checkServer(settings, ['binlog_format']);
  const pool = openPool(config, primary);
  try {
    await createDatabase(settings);
    const count = await migrate(pool, print);
    print(count === 0 ? 'the database is up to date' : `${count} schema files applied`);
    return 0;
  } finally {
    pool.close();
  }
}
