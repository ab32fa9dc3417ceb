/** Opens and migrates the database of a command, and checks that its schema fits this otpd. */
import type { Config } from './config/config.ts';
import {
  createDatabase, migrate, readSchemaStatus, SchemaError, throwOnConflict,
} from '../db/migrate.ts';
import { ConnectionPool } from '../db/pool.ts';
import { openConnection } from '../db/connection.ts';
import { print } from './output.ts';

/** Creates a pool. It connects on first use, and the caller closes it. */
export function openPool({ database, connections }: Config): ConnectionPool {
  return new ConnectionPool(() => openConnection(database), connections);
}

/**
 * Opens a pool on a database whose schema is current.
 *
 * @throws SchemaError as checkSchema does, after closing the pool
 */
export async function openMigrated(config: Config): Promise<ConnectionPool> {
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
export async function checkSchema(pool: ConnectionPool): Promise<void> {
  const status = await readSchemaStatus(pool);
  throwOnConflict(status);
  if (status.pending.length === 0) return;
  const list = status.pending.join(', ');
  throw new SchemaError(`the database lacks ${list}\nrun: npm run migrate (or: otpd migrate)`);
}

/** `otpd migrate`: creates the database unless it exists, and applies the missing schema files. */
export async function migrateDatabase(config: Config): Promise<number> {
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
