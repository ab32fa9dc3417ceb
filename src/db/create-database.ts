/** Makes the database (schema) that the tables live in. */
import { openSession } from './session.ts';
import type { DatabaseSettings } from './session.ts';
import { StatementError } from './statement-error.ts';

/** Names that need no quoting rules to be safe between backticks. */
export const DATABASE_NAME = /^[A-Za-z0-9_$-]{1,64}$/;

const UNKNOWN_DATABASE_ERRNO = 1049;

/**
 * Creates the database that the settings name, unless it is there. Only then is the right to
 * create one needed.
 *
 * @throws Unavailable when the server is away; StatementError when the account may not
 */
export async function createDatabase(settings: DatabaseSettings): Promise<void> {
  if (await isThere(settings)) return;
  const { database } = settings;
  if (database === null || !DATABASE_NAME.test(database)) throw new Error('no database name');
  const session = await openSession({ ...settings, database: null });
  try {
    await session.run('database.create', `CREATE DATABASE IF NOT EXISTS \`${database}\``, []);
  } finally {
    session.destroy();
  }
}

async function isThere(settings: DatabaseSettings): Promise<boolean> {
  try {
    (await openSession(settings)).destroy();
    return true;
  } catch (error) {
    const { cause } = error as Error;
    if (cause instanceof StatementError && cause.errno === UNKNOWN_DATABASE_ERRNO) return false;
    throw error;
  }
}
