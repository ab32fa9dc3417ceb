/**
 * One MySQL connection on top of mysql2, with the session variables that the statements need. A
 * connection in an unknown state is destroyed.
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import mysql from 'mysql2';
import type {
  Connection as MysqlConnection, ConnectionOptions, ResultSetHeader, RowDataPacket, SslOptions,
} from 'mysql2';
import { Deadline, monotonicMs } from './clock.ts';
import { findOtherProduct, MYSQL_REMEDY } from './checks/mysql-version.ts';
import { describeStatementError, StatementError, Unavailable } from './errors.ts';
import type { Row, Value } from './query.ts';
import { SESSION_SETUP_SQL } from './session.ts';

/**
 * - `off`: no TLS.
 * - `require`: TLS with any certificate.
 * - `verify-ca`: the CA must have signed the certificate.
 * - `verify-full`: and the certificate must be for the name of the host.
 */
export const TLS_MODES = Object.freeze(['off', 'require', 'verify-ca', 'verify-full'] as const);

/** Exactly one of socketPath and host is set. */
export type DatabaseSettings = Readonly<{
  socketPath: string | null;
  host: string | null;
  port: number;
  user: string;
  password: string;
  /** The database to use; null: none, because it does not exist yet. */
  database: string | null;
  tls: (typeof TLS_MODES)[number];
  /** PEM file of the CA that signed the certificate of the server; null: the CAs of Node.js. */
  tlsCaFile: string | null;
}>;

/** A server as messages, log and metrics name it. */
export function hostLabel({ socketPath, host, port }: DatabaseSettings): string {
  if (host === null) return socketPath ?? '';
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

type Statement = Readonly<{ sql: string; values: readonly Value[] }>;

/** When a connection has sent and received; times are by monotonicMs(). */
type Activity = {
  /** The id of the connection in the server; 0 before the login. */
  threadId: number;
  /** True from sending a statement until its response. */
  isWaiting: boolean;
  sentAtMs: number;
  heardAtMs: number;
};

/** A connection as statements and transactions use it. Statements run one at a time. */
export type Connection = Readonly<{
  activity: Readonly<Activity>;
  /** Runs one statement; throws StatementError. Errors and logs show `name`, never the SQL. */
  run: (name: string, sql: string, values: readonly Value[]) => Promise<Row[]>;
  /** Runs statements in one round trip, up to the first error. Returns the rows of each. */
  runAll: (name: string, statements: readonly Statement[]) => Promise<Row[][]>;
  /** Closes the connection at once; a pending statement fails as connectionLost. Idempotent. */
  destroy: () => void;
  /** True once the connection was destroyed or the server closed it. */
  isDestroyed: () => boolean;
}>;

/** Routers drop the state of an idle connection after some minutes. */
const KEEPALIVE_IDLE_MS = 60_000;

/** The kernel repeats a lost SYN after a second. A caller of a pool leaves at its own deadline. */
const OPEN_TIMEOUT_MS = 1500;

/**
 * Opens and sets up a connection.
 *
 * @throws Unavailable when the server is unreachable, is not MySQL, rejects the login, or the
 *   set-up fails
 */
export async function openConnection(
  settings: DatabaseSettings,
  setUpSql: string = SESSION_SETUP_SQL,
): Promise<Connection> {
  const options = connectionOptions(settings);
  const deadline = new Deadline(OPEN_TIMEOUT_MS);
  const socket = openSocket(settings);
  let otherProduct: string | null = null;
  // Before the driver, which would send the credentials.
  socket.once('data', (greeting: Buffer) => {
    otherProduct = findOtherProduct(versionIn(greeting));
    if (otherProduct !== null) socket.destroy();
  });
  const driver = mysql.createConnection({ ...options, stream: socket });
  keepEncoding(driver);
  const connection = createConnection(driver, socket);
  deadline.onEnd(connection.destroy);
  try {
    await connection.run('setUpSession', setUpSql, []);
    return connection;
  } catch (error) {
    connection.destroy();
    if (otherProduct !== null) {
      throw new Unavailable(`the server ${otherProduct}`, { remedy: MYSQL_REMEDY });
    }
    const cause = describeStatementError('setUpSession', error);
    const reason = deadline.isOver ? `no answer within ${OPEN_TIMEOUT_MS / 1000} s` : cause.code;
    const remedy = openRemedy(cause, settings);
    throw new Unavailable(`cannot connect to the database: ${reason}`, { cause, remedy });
  } finally {
    deadline.clear();
  }
}

const GREETING_VERSION_AT = 5;
const PROTOCOL_VERSION = 10;

/** The version in the first packet of a server; '' when the packet is an error. */
function versionIn(packet: Buffer): string {
  if (packet[GREETING_VERSION_AT - 1] !== PROTOCOL_VERSION) return '';
  return packet.toString('latin1', GREETING_VERSION_AT, packet.indexOf(0, GREETING_VERSION_AT));
}

const ACCESS_DENIED_ERRNO = 1045;

function openRemedy({ errno, remedy }: StatementError, settings: DatabaseSettings): string {
  const { socketPath, tls } = settings;
  const place = socketPath === null ? 'at DB_HOST and DB_PORT' : 'at the socket DB_SOCKET';
  if (remedy === null) return `check that MySQL 8.0.19 or later answers ${place}`;
  // An account that requires TLS gets the same error as one with a wrong password.
  return errno === ACCESS_DENIED_ERRNO && tls === 'off' && socketPath === null
    ? `${remedy}; an account that requires TLS needs DB_TLS` : remedy;
}

/** The driver would keep its own socket open until the server closes it, which may never happen. */
function openSocket({ socketPath, host, port }: DatabaseSettings): Socket {
  if (socketPath !== null) return connect(socketPath);
  const socket = connect(port, host ?? '127.0.0.1');
  return socket.setNoDelay(true).setKeepAlive(true, KEEPALIVE_IDLE_MS);
}

function connectionOptions(settings: DatabaseSettings): ConnectionOptions {
  const options: ConnectionOptions = {
    user: settings.user,
    password: settings.password,
    timezone: 'Z',
    dateStrings: true,
    supportBigNumbers: true,
    stringifyObjects: true,
    // A transaction takes two round trips. Safe, because bindValues writes literals.
    multipleStatements: true,
    queryFormat: (text) => text,
    connectTimeout: OPEN_TIMEOUT_MS,
    // affectedRows counts changed rows only, and the server cannot read files of this machine.
    flags: ['-FOUND_ROWS', '-LOCAL_FILES'],
  };
  if (settings.database !== null) options.database = settings.database;
  // The driver connects through `stream`: these only choose authentication and verification.
  if (settings.socketPath !== null) options.socketPath = settings.socketPath;
  if (settings.host !== null) options.host = settings.host;
  if (settings.tls !== 'off') options.ssl = tlsOptions(settings);
  return options;
}

function tlsOptions({ tls, tlsCaFile }: DatabaseSettings): SslOptions {
  return {
    ...(tlsCaFile === null ? {} : { ca: readCa(tlsCaFile) }),
    minVersion: 'TLSv1.2',
    rejectUnauthorized: tls !== 'require',
    verifyIdentity: tls === 'verify-full',
  };
}

/** The file is read for every connection, so that a renewed CA needs no restart. */
function readCa(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const remedy = 'restore the file, or set DB_TLS_CA to another one';
    throw new Unavailable(`DB_TLS_CA cannot be read (${code}): ${path}`, { cause: error, remedy });
  }
}

/**
 * Makes the driver encode every statement as UTF-8. It would follow the character set that the
 * server reports, and fail on one that it does not know, before SET NAMES could run.
 */
function keepEncoding({ config }: MysqlConnection): void {
  const { charsetNumber } = config;
  Object.defineProperty(config, 'charsetNumber', { get: () => charsetNumber, set: () => {} });
}

type Result = RowDataPacket[] | ResultSetHeader;
type QueryResult = Result | RowDataPacket[][];

function createConnection(driver: MysqlConnection, socket: Socket): Connection {
  const activity: Activity = { threadId: 0, isWaiting: false, sentAtMs: 0, heardAtMs: 0 };
  let isDestroyed = false;
  let failPending: ((error: StatementError) => void) | null = null;

  const destroy = (): void => {
    if (isDestroyed) return;
    isDestroyed = true;
    driver.destroy();
    socket.destroy();
    // The driver never answers a pending statement of a connection that it closed itself.
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
      activity.isWaiting = true;
      activity.sentAtMs = monotonicMs();
      driver.query<QueryResult>(text, (error, result) => {
        failPending = null;
        activity.isWaiting = false;
        activity.heardAtMs = monotonicMs();
        activity.threadId = driver.threadId;
        if (error) reject(describeStatementError(name, error));
        else resolve(result);
      });
    });

  return {
    activity,
    destroy,
    isDestroyed: () => isDestroyed,
    run: async (name, sql, values) => toRows(await send(name, [{ sql, values }]) as Result),
    runAll: async (name, statements) =>
      (await send(name, statements) as Result[]).map(toRows),
  };
}

/** The driver returns a header instead of rows for a statement without rows. */
function toRows(result: Result): Row[] {
  return Array.isArray(result) ? result : [];
}

/** ASCII without quotes and backslashes: most ids, all times and client IPs. */
const PLAIN_TEXT = /^[\w .:/@+-]*$/;

/**
 * Writes values into a statement as SQL literals, in order, several times as fast as the driver for
 * the long statements of a batch. Every question mark is a placeholder, even in literals and
 * comments of the statement.
 *
 * No value can act as SQL, whatever the character set and the sql_mode of the connection:
 * - Only the four types of Value pass. The driver would write an object or an array as SQL.
 * - Plain text is quoted. Any other text is written as the hexadecimal digits of its UTF-8 bytes:
 *   another character set may take a backslash for the second byte of a character, and read the
 *   escaped quote as the end of the literal. The literal has no COLLATE, so that a comparison uses
 *   the collation and the index of the column.
 * - Bytes are written as hexadecimal digits. After `X?` the server rejects a literal with any other
 *   character.
 * - Placeholders are looked up in the statement only; a question mark in a value is not one.
 *
 * @throws TypeError when the number of values differs from that of the placeholders, or when the
 *   type of a value is not in Value
 */
export function bindValues(sql: string, values: readonly Value[]): string {
  let text = '';
  let from = 0;
  for (const value of values) {
    const mark = sql.indexOf('?', from);
    if (mark === -1) throw new TypeError('more values than question marks');
    text += sql.slice(from, mark) + literal(value);
    from = mark + 1;
  }
  if (sql.includes('?', from)) throw new TypeError('more question marks than values');
  return text + sql.slice(from);
}

function literal(value: Value): string {
  if (typeof value === 'string') {
    if (PLAIN_TEXT.test(value)) return `'${value}'`;
    return `_utf8mb4 X'${Buffer.from(value).toString('hex')}'`;
  }
  if (typeof value === 'number' && Number.isFinite(value)) return String(value);
  if (value === null) return 'NULL';
  if (Buffer.isBuffer(value)) return `X'${value.toString('hex')}'`;
  throw new TypeError(`a ${typeof value} cannot be bound`);
}
