/** A fresh database for a test, on the throwaway MySQL that the test runner started. */
import { randomBytes } from 'node:crypto';
import type { Value } from '../../src/db/bind.ts';
import { openConnection } from '../../src/db/connection.ts';
import type { DatabaseSettings, Row, Connection } from '../../src/db/connection.ts';
import { createDatabase, migrate } from '../../src/db/migrate.ts';
import { ConnectionPool } from '../../src/db/pool.ts';
import { TestClock } from './clock.ts';
import { recordVisible, rowText } from './leak-recorder.ts';
import { eventually } from './waiting.ts';

/** A database of its own, with a pool under a clock that the test moves. */
export type TestDatabase = Readonly<{
  settings: DatabaseSettings;
  clock: TestClock;
  pool: ConnectionPool;
  /** Runs one statement in a connection of its own, outside the clock, and commits it. */
  query: (sql: string, values?: readonly Value[]) => Promise<Row[]>;
  /** How many rows the pool's connections have read so far, once none is lent any more. */
  rowsRead: () => Promise<number>;
  /** Ends the pool; fails when a connection was never given back. */
  close: () => void;
}>;

/** How many connections a test's pool may open unless it says otherwise. */
const CONNECTIONS_MAX = 16;

/** The socket of the throwaway server. Without one the process ends, with one line. */
export function serverSocket(): string {
  const socketPath = process.env.OTPD_TEST_SOCKET;
  if (socketPath !== undefined) return socketPath;
  process.stderr.write('This test asks for a database. Files in test/unit and test/http run without'
    + ' MySQL: move it to test/db. Others run by: npm test -- FILE\n');
  process.exit(1);
}

/** Settings for a database of the throwaway server, or of another one. */
export function settingsFor(
  database: string | null,
  socketPath = serverSocket(),
): DatabaseSettings {
  return {
    socketPath,
    host: null,
    port: 0,
    user: 'root',
    password: '',
    database,
    tlsCaFile: null,
  };
}

/** A name that no other test has. The runner reads such databases at the end, for the leak test. */
export function newDatabaseName(): string {
  return `otpd_test_${randomBytes(6).toString('hex')}`;
}

/** Creates and migrates a database of the throwaway server. */
export function createTestDatabase(connectionsMax = CONNECTIONS_MAX): Promise<TestDatabase> {
  return createMigrated(settingsFor(newDatabaseName()), connectionsMax);
}

/** Creates and migrates a database. */
export async function createMigrated(
  settings: DatabaseSettings,
  connectionsMax = CONNECTIONS_MAX,
): Promise<TestDatabase> {
  await createDatabase(settings);
  const plain = new ConnectionPool(() => openConnection(settings), 2);
  await migrate(plain, () => {});
  plain.close();
  return openTestDatabase(settings, connectionsMax);
}

/** Makes a database as it was when it was migrated; the leak check gets the rows. */
export async function emptyTables({ settings, query }: TestDatabase): Promise<void> {
  const tables = await query(`SELECT table_name AS name FROM information_schema.tables
    WHERE table_schema = ? AND table_name <> 'schema_migrations'`, [settings.database]);
  for (const { name } of tables) {
    for (const row of await query(`SELECT * FROM \`${name}\``)) recordVisible(rowText(row));
    await query(`DELETE FROM \`${name}\``);
  }
}

/** Opens a database that exists, under a clock of its own. */
export function openTestDatabase(
  settings: DatabaseSettings,
  connectionsMax = CONNECTIONS_MAX,
): TestDatabase {
  const clock = new TestClock();
  const opened: Connection[] = [];
  const open = async (): Promise<Connection> => {
    const connection = clock.wrap(await openConnection(settings));
    opened.push(connection);
    return connection;
  };
  const pool = new ConnectionPool(open, connectionsMax);
  const query: TestDatabase['query'] = async (sql, values = []) => {
    const connection = await openConnection(settings);
    try {
      const rows = await connection.run('test', sql, values);
      await connection.run('test', 'COMMIT', []);
      return rows;
    } finally {
      connection.destroy();
    }
  };
  // The server's own count has the rows of tests that run beside this one, too.
  const rowsRead = async (): Promise<number> => {
    await eventually('no connection is lent', () => pool.busyCount === 0);
    const living = opened.filter((connection) => !connection.isDestroyed());
    const counts = await Promise.all(living.map((connection) =>
      connection.run('count', "SHOW SESSION STATUS LIKE 'Handler_read_%'", [])));
    return counts.flat().reduce((sum, { Value }) => sum + Number(Value), 0);
  };
  const close = (): void => {
    const { busyCount } = pool;
    pool.close();
    if (busyCount > 0) throw new Error(`${busyCount} connections were never given back`);
  };
  return { settings, clock, pool, query, rowsRead, close };
}
