/**
 * Errors of the database layer. Each failed statement gets a class that says whether to retry. SQL
 * and the server's message are dropped, because they contain values.
 */
/**
 * - `retry`: the transaction lost a race or a lock, and can run again as a whole.
 * - `connectionLost`: the connection is gone; whatever was not committed did not happen.
 * - `unavailable`: the server responds but cannot serve.
 * - `bug`: an error in otpd; a retry would fail again.
 */
type ErrorClass = 'retry' | 'connectionLost' | 'unavailable' | 'bug';

/**
 * The classes by server error number (MySQL error reference). A number speaks of the server, the
 * account or another transaction; all other errors are bugs.
 */
const ERRNOS: Readonly<Record<Exclude<ErrorClass, 'bug'>, readonly number[]>> = {
  retry: [
    1213, // deadlock: the server has rolled the transaction back
    3101, // the group has certified another transaction first, and this one is rolled back
    1205, // lock wait timeout, of a row or a table: only the statement was rolled back
    3572, // NOWAIT found a lock
    1689, // the wait for a lock was aborted for another one
    1412, // the definition of the table has changed since the transaction began
    1062, // another transaction inserted the same key first
  ],
  connectionLost: [
    1053, 1077, 1079, // server shutdown
    1317, // statement interrupted by a shutdown or a KILL QUERY
    1152, 1184, 1927, 3169, // connection was aborted or killed
    1158, 1159, 1160, 1161, // network error, as the server sees it
    4031, // idle too long
  ],
  unavailable: [
    1290, 1792, 1836, 1874, // read-only: option, transaction, mode, InnoDB
    1036, 1207, 1223, 3989, // read-only: table, transaction, read lock, schema
    1021, 1114, 3019, 3675, // disk, table, undo log full
    1015, 1016, 1017, 1024, 1026, 1030, 1180, // file or storage engine cannot be used
    1034, 1035, 1194, 1195, 1712, 1812, 1814, 1877, 3510, // table or tablespace is damaged
    3185, // the key of an encrypted table is missing
    1037, 1038, 1041, 1119, 1135, 1436, 3015, 3170, 3186, 3985, // memory or threads
    4081, 4082, // memory of a connection
    1197, 1206, 1637, 1705, 3231, // limits of transactions: binlog cache, locks, undo, write set
    3024, 1028, // statement or sort was ended by a time limit
    1040, 1203, 1226, // connections of the server or the account
    1129, 1130, // host is blocked or has no account
    1044, 1045, 1142, 1143, 1227, 1370, 1698, 3879, // rights were revoked
    1820, 1862, 3118, 3955, // account is locked, or its password has expired
    1251, 1275, 1524, 3159, // authentication or transport is not accepted
    1049, 1146, // the database or a table was dropped
    3032, 3161, 3164, 3889, // offline mode, disabled engine, audit, secondary engine
    1104, 1175, // the server refuses large or keyless statements
    1593, 1598, 1534, // binlog cannot be written
    1661, 1662, 1663, 1664, 1665, 1666, 1667, 1781, 1782, 1785, 1844, // binlog or GTID settings
    3098, 3100, // a plugin refused the table or the commit
    3781, 3782, 3796, 3797, 3798, 3799, // the group is not consistent, or has no majority
  ],
};

const ERROR_CLASS_BY_ERRNO: ReadonlyMap<number, ErrorClass> = new Map(
  (Object.keys(ERRNOS) as (keyof typeof ERRNOS)[]).flatMap((errorClass) =>
    ERRNOS[errorClass].map((errno): [number, ErrorClass] => [errno, errorClass])),
);

/** A failed statement. The message has the statement name and the error code, never a value. */
export class StatementError extends Error {
  readonly statement: string;
  readonly errno: number;
  readonly errorClass: ErrorClass;

  /**
   * @param code the symbolic error code, such as ER_LOCK_DEADLOCK
   * @param errno the error number of the server, or 0
   */
  constructor(statement: string, code: string, errno: number, errorClass: ErrorClass) {
    super(`${statement}: ${code}`);
    this.name = 'StatementError';
    this.statement = statement;
    this.errno = errno;
    this.errorClass = errorClass;
  }
}

type DriverError = { code?: unknown; errno?: unknown; fatal?: unknown };

/** Classifies an error of the driver. Fatal errors and network errors mean a lost connection. */
export function describeStatementError(statement: string, error: unknown): StatementError {
  if (error instanceof StatementError) return error;
  const { code, errno, fatal } = error as DriverError;
  const number = typeof errno === 'number' ? errno : typeof code === 'number' ? code : 0;
  const errorClass = ERROR_CLASS_BY_ERRNO.get(number) ?? (fatal || number < 0
    ? 'connectionLost' : 'bug');
  const name = typeof code === 'string' ? code : number > 0 ? String(number) : 'CONNECTION_LOST';
  return new StatementError(statement, name, number, errorClass);
}

/** For an error that retries did not resolve. */
export function asUnavailable(error: StatementError): Unavailable {
  return new Unavailable(error.message, { cause: error });
}
/**
 * The database cannot answer now. The work had no effect, or its outcome is unknown and the client
 * may repeat the request with its key.
 */
export class Unavailable extends Error {
  /** Whole seconds after which a client may repeat the request. */
  readonly retryAfterSeconds: number;

  /** @param reason the failure for the log; never shown to a client */
  constructor(reason: string, options: { cause?: unknown; retryAfterSeconds?: number } = {}) {
    super(reason, { cause: options.cause });
    this.name = 'Unavailable';
    this.retryAfterSeconds = options.retryAfterSeconds ?? 1;
  }
}

export const DEADLOCK_ERRNO = 1213;
