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

/** The classes by server error number (MySQL error reference); all other errors are bugs. */
const ERROR_CLASS_BY_ERRNO: ReadonlyMap<number, ErrorClass> = new Map([
  [1213, 'retry'], // deadlock: the server has rolled the transaction back
  [1205, 'retry'], // lock wait timeout: only the statement was rolled back
  [3572, 'retry'], // NOWAIT found a lock
  [1062, 'retry'], // another transaction inserted the same key first
  [1021, 'unavailable'], // disk full
  [1037, 'unavailable'], // out of memory
  [1038, 'unavailable'], // out of sort memory
  [1040, 'unavailable'], // too many connections
  [1041, 'unavailable'], // out of resources
  [1045, 'unavailable'], // access denied: the account was changed while otpd runs
  [1114, 'unavailable'], // table or disk full
  [1129, 'unavailable'], // host blocked
  [1203, 'unavailable'], // max_user_connections
  [1226, 'unavailable'], // resource limit of the account
  [1290, 'unavailable'], // --read-only
  [1792, 'unavailable'], // read-only transaction
  [1836, 'unavailable'], // read-only mode
  [3024, 'unavailable'], // statement time exceeded
  [3100, 'unavailable'], // group replication refused the commit
  [1053, 'connectionLost'], // server shutdown in progress
  [1317, 'connectionLost'], // statement interrupted by a shutdown or a KILL QUERY
  [1927, 'connectionLost'], // connection was killed
  [4031, 'connectionLost'], // idle too long
]);

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
