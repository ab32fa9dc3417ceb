/** A new database for a test, on the MySQL server that the test runner started. */
import { randomBytes } from 'node:crypto';
import { openConnection } from '../../src/db/connection.ts';
import type { DatabaseSettings, Connection } from '../../src/db/connection.ts';
import { createDatabase, migrate } from '../../src/db/migrate.ts';
import { ConnectionPool } from '../../src/db/pool.ts';
import type { Row, Value } from '../../src/db/query.ts';
import { TestClock } from './clock.ts';
import { recordVisible, rowText } from './leak-recorder.ts';
import { eventually } from './waiting.ts';

/** A database with a pool whose clock the test moves. */
export type TestDatabase = Readonly<{
  settings: DatabaseSettings;
  clock: TestClock;
  pool: ConnectionPool;
  /** Runs and commits one statement on its own connection, at the real time. */
  query: (sql: string, values?: readonly Value[]) => Promise<Row[]>;
  /** The number of rows that the connections of the pool have read, once none is in use. */
  rowsRead: () => Promise<number>;
  /** Closes the pool; throws when a connection was not released. */
  close: () => void;
}>;

/** The default size of a pool. */
const CONNECTIONS_MAX = 16;

/** The socket of the test server. Without one, the process exits with one line. */
export function serverSocket(): string {
  const socketPath = process.env.OTPD_TEST_SOCKET;
  if (socketPath !== undefined) return socketPath;
  process.stderr.write('This test asks for a database. Files in test/unit and test/http run without'
    + ' MySQL: move it to test/db. Others run by: npm test -- FILE\n');
  process.exit(1);
}

/** Settings for a database of the test server, or of another server. */
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
    tls: 'off',
    tlsCaFile: null,
  };
}

/** A unique name. The leak check reads the tables of these databases at the end of a lane. */
export function newDatabaseName(): string {
  return `otpd_test_${randomBytes(6).toString('hex')}`;
}

/** Creates and migrates a database on the test server. */
export function createTestDatabase(connectionsMax = CONNECTIONS_MAX): Promise<TestDatabase> {
  return createMigrated(settingsFor(newDatabaseName()), connectionsMax);
}

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

/** Empties all tables but schema_migrations; the leak recorder gets the rows. */
export async function emptyTables({ settings, query }: TestDatabase): Promise<void> {
  const tables = await query(`SELECT table_name AS name FROM information_schema.tables
    WHERE table_schema = ? AND table_name <> 'schema_migrations'`, [settings.database]);
  for (const { name } of tables) {
    for (const row of await query(`SELECT * FROM \`${name}\``)) recordVisible(rowText(row));
    await query(`DELETE FROM \`${name}\``);
  }
}

/** Runs one statement on a connection of its own, and commits it. */
export async function runStatement(
  settings: DatabaseSettings,
  sql: string,
  values: readonly Value[] = [],
): Promise<Row[]> {
  const connection = await openConnection(settings);
  try {
    const rows = await connection.run('test', sql, values);
    await connection.run('test', 'COMMIT', []);
    return rows;
  } finally {
    connection.destroy();
  }
}

/** Opens an existing database with its own clock. */
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
  const query: TestDatabase['query'] = (sql, values) => runStatement(settings, sql, values);
  // The counters of the server include the rows of other tests.
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
    if (busyCount > 0) throw new Error(`${busyCount} connections were not released`);
  };
  return { settings, clock, pool, query, rowsRead, close };
}
