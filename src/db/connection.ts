/**
 * One connection to MySQL, set up the one way that the statements rely on, on top of mysql2.
 * A session runs one named statement at a time, and is destroyed when it cannot be trusted.
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import mysql from 'mysql2';
import type {
  Connection as MysqlConnection, ConnectionOptions, ResultSetHeader, RowDataPacket,
} from 'mysql2';
import { bindValues } from './bind.ts';
import type { Value } from './bind.ts';
import { Deadline } from './deadline.ts';
import { describeStatementError, StatementError, Unavailable } from './errors.ts';

/** Where the database is. Either socketPath or host is given. */
export type DatabaseSettings = Readonly<{
  socketPath: string | null;
  host: string | null;
  port: number;
  user: string;
  password: string;
  /** The schema to use; null for none (before it exists). */
  database: string | null;
  /** A PEM file of the authority that signed the server's certificate; null: no TLS. */
  tlsCaFile: string | null;
}>;

/** A row, column by name. DATETIME columns are text, BINARY columns are Buffers. */
export type Row = Readonly<Record<string, unknown>>;

/** The text of a statement, and the values for its question marks. */
type Statement = Readonly<{ sql: string; values: readonly Value[] }>;

/** What the transaction helper and the statements need of a connection. */
export type Connection = Readonly<{
  /** Runs one statement; throws StatementError. `name` is what logs and errors call it. */
  run: (name: string, sql: string, values: readonly Value[]) => Promise<Row[]>;
  /**
   * Runs statements in one round trip; the first that fails is the last that runs. Gives the
   * rows of each.
   */
  runAll: (name: string, statements: readonly Statement[]) => Promise<Row[][]>;
  /** Closes the connection at once; a statement under way fails as lost. Idempotent. */
  destroy: () => void;
  /** True once the connection was destroyed or the server closed it. */
  isDestroyed: () => boolean;
}>;

/** A host that does not answer must leave time for a 503 within 3 s. */
const OPEN_TIMEOUT_MS = 1500;

/** Shorter than the deadline of a transaction, so that a lock that is held ends in a rerun. */
const LOCK_WAIT_TIMEOUT_SECONDS = 2;

/**
 * What the statements rely on: UTC, no silent truncation, byte-exact comparison, and fresh reads
 * after a lock and no gap locks (READ COMMITTED).
 */
export const SESSION_VARIABLES: Readonly<Record<string, string>> = Object.freeze({
  time_zone: '+00:00',
  sql_mode: 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION',
  collation_connection: 'utf8mb4_0900_bin',
  transaction_isolation: 'READ-COMMITTED',
});

/** And transactions without a BEGIN of their own (autocommit off). */
const SESSION_SETUP_SQL = `SET
  ${Object.entries(SESSION_VARIABLES).map(([name, value]) => `${name} = '${value}'`).join(', ')},
  innodb_lock_wait_timeout = ${LOCK_WAIT_TIMEOUT_SECONDS},
  autocommit = 0`;

/** Sets nothing up: for whoever asks which server it is, because not every one has all of that. */
export const NO_SETUP_SQL = 'DO 0';

/**
 * Opens a session.
 *
 * @param setUpSql the first statement
 * @throws Unavailable when the server cannot be reached, refuses, or the set-up fails
 */
export async function openConnection(
  settings: DatabaseSettings,
  setUpSql: string = SESSION_SETUP_SQL,
): Promise<Connection> {
  const deadline = new Deadline(OPEN_TIMEOUT_MS);
  const socket = openSocket(settings);
  const driver = mysql.createConnection({ ...connectionOptions(settings), stream: socket });
  const connection = createConnection(driver, socket);
  deadline.onEnd(connection.destroy);
  try {
    await connection.run('setUpSession', setUpSql, []);
    return connection;
  } catch (error) {
    connection.destroy();
    const cause = describeStatementError('setUpSession', error);
    throw new Unavailable(`cannot connect to the database: ${cause.message}`, { cause });
  } finally {
    deadline.clear();
  }
}

/** Our own, because the driver closes its socket only once the server does, which may be never. */
function openSocket({ socketPath, host, port }: DatabaseSettings): Socket {
  if (socketPath !== null) return connect(socketPath);
  const socket = connect(port, host ?? '127.0.0.1');
  return socket.setNoDelay(true).setKeepAlive(true);
}

function connectionOptions(settings: DatabaseSettings): ConnectionOptions {
  const options: ConnectionOptions = {
    user: settings.user,
    password: settings.password,
    timezone: 'Z',
    dateStrings: true,
    supportBigNumbers: true,
    stringifyObjects: true,
    // A transaction is two round trips; every value is bound, and only a Value can be, so that
    // no value is ever read as SQL.
    multipleStatements: true,
    queryFormat: (text) => text,
    connectTimeout: OPEN_TIMEOUT_MS,
    // affectedRows must count changed rows; LOAD DATA LOCAL must not be open to the server.
    flags: ['-FOUND_ROWS', '-LOCAL_FILES'],
  };
  if (settings.database !== null) options.database = settings.database;
  // The driver does not connect by these, but judges by them how to authenticate and verify.
  if (settings.socketPath !== null) options.socketPath = settings.socketPath;
  if (settings.host !== null) options.host = settings.host;
  if (settings.tlsCaFile !== null) {
    const ca = readFileSync(settings.tlsCaFile);
    options.ssl = { ca, minVersion: 'TLSv1.2', rejectUnauthorized: true, verifyIdentity: true };
  }
  return options;
}

type Result = RowDataPacket[] | ResultSetHeader;
type QueryResult = Result | RowDataPacket[][];

function createConnection(driver: MysqlConnection, socket: Socket): Connection {
  let isDestroyed = false;
  let failPending: ((error: StatementError) => void) | null = null;

  const destroy = (): void => {
    if (isDestroyed) return;
    isDestroyed = true;
    driver.destroy();
    socket.destroy();
    // The driver forgets a pending statement of a connection that it closed itself.
    failPending?.(new StatementError('destroyed', 'CONNECTION_DESTROYED', 0, 'connectionLost'));
  };
  driver.on('end', destroy);
  driver.on('error', destroy);

  const send = (name: string, statements: readonly Statement[]): Promise<QueryResult> =>
    new Promise((resolve, reject) => {
      if (isDestroyed) {
        reject(new StatementError(name, 'CONNECTION_DESTROYED', 0, 'connectionLost'));
        return;
      }
      const text = statements.map(({ sql, values }) => bindValues(sql, values)).join(';\n');
      failPending = reject;
      driver.query<QueryResult>(text, (error, result) => {
        failPending = null;
        if (error) reject(describeStatementError(name, error));
        else resolve(result);
      });
    });

  return {
    destroy,
    isDestroyed: () => isDestroyed,
    run: async (name, sql, values) => toRows(await send(name, [{ sql, values }]) as Result),
    runAll: async (name, statements) =>
      (await send(name, statements) as Result[]).map(toRows),
  };
}

/** A statement that gives no rows gives a header instead. */
function toRows(result: Result): Row[] {
  return Array.isArray(result) ? result : [];
}
