/** The database of a project in the development MySQL, and the account that otpd uses there. */
import { createHash } from 'node:crypto';
import { createDatabase, migrate } from '../src/db/migrate.ts';
import { ConnectionPool } from '../src/db/pool.ts';
import { openConnection } from '../src/db/connection.ts';
import type { DatabaseSettings } from '../src/db/connection.ts';

/** One connection migrates while another holds the lock of the migration. */
const MIGRATION_CONNECTIONS = 2;

/** A database as root sees it. Root has no password; only this user can reach the socket. */
export function rootSettings(socketPath: string, database: string): DatabaseSettings {
  return {
    socketPath, database, host: null, port: 0, user: 'root', password: '', tls: 'off',
    tlsCaFile: null,
  };
}

/** Creates the database unless it exists, and applies the schema files that it lacks. */
export async function createMigrated(
  settings: DatabaseSettings,
  print: (line: string) => void,
): Promise<void> {
  await createDatabase(settings);
  const pool = new ConnectionPool(() => openConnection(settings), MIGRATION_CONNECTIONS);
  try {
    await migrate(pool, print);
  } finally {
    pool.close();
  }
}

/**
 * Creates the account of a database unless it exists. The account has rights on that database
 * only, so a command that runs in development has no rights that it would lack in production.
 *
 * @param settings the database, as root
 * @returns the variables that make otpd use the database with that account
 */
export async function createAccount(
  settings: DatabaseSettings,
): Promise<Readonly<Record<string, string>>> {
  const name = settings.database ?? '';
  const user = accountOf(name);
  const connection = await openConnection({ ...settings, database: null });
  try {
    await connection.run('account.create', `CREATE USER IF NOT EXISTS ${user}@localhost`, []);
    // In GRANT, an unescaped _ stands for any character (MySQL manual, "GRANT Statement").
    const pattern = name.replaceAll('_', '\\_');
    await connection.run('account.grant', `GRANT ALL ON \`${pattern}\`.* TO ${user}@localhost`, []);
  } finally {
    connection.destroy();
  }
  return {
    DB_HOST: '', DB_SOCKET: settings.socketPath ?? '', DB_NAME: name, DB_USER: user,
    DB_PASSWORD: '', DB_PASSWORD_FILE: '', DB_TLS: '', DB_TLS_CA: '',
  };
}

/** An account for each database. A digest, because a name of MySQL has at most 32 characters. */
function accountOf(database: string): string {
  return `otpd_${createHash('sha256').update(database).digest('hex').slice(0, 16)}`;
}
