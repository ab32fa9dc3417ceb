/**
 * Errors of the database layer. Each failed statement gets a class that says whether to retry. SQL
 * and the server's message are dropped, because they contain values.
 */

/**
 * - `retry`: the transaction lost a race or a lock, and can run again as a whole.
 * - `connectionLost`: the connection is gone; whatever was not committed did not happen.
 * - `moved`: the server takes no writes, or has lost its group; another server may be the primary.
 * - `unavailable`: the server responds but cannot serve.
 * - `bug`: an error in otpd; a retry would fail again.
 */
type ErrorClass = 'retry' | 'connectionLost' | 'moved' | 'unavailable' | 'bug';

/**
 * The classes by server error number (MySQL error reference). A number concerns the server, the
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
  moved: [
    1290, 1836, 1874, // read-only: option, mode, InnoDB
    3032, // offline mode, in which a member may leave its group
    3100, // the group refused the commit
    3796, 3797, 3798, 3799, // the consistency of the group cannot be kept
  ],
  unavailable: [
    1792, // read-only transaction
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
    3161, 3164, 3889, // disabled engine, audit, secondary engine
    1104, 1175, // the server refuses large or keyless statements
    1593, 1598, 1534, // binlog cannot be written
    1661, 1662, 1663, 1664, 1665, 1666, 1667, 1781, 1782, 1785, 1844, // binlog or GTID settings
    3098, 3781, 3782, // a plugin refused the table or the transaction
  ],
};

const ERROR_CLASS_BY_ERRNO: ReadonlyMap<number, ErrorClass> = new Map(
  (Object.keys(ERRNOS) as (keyof typeof ERRNOS)[]).flatMap((errorClass) =>
    ERRNOS[errorClass].map((errno): [number, ErrorClass] => [errno, errorClass])),
);

/** The account lacks a privilege: on the database, the table, the column, or of the server. */
const DENIED_ERRNOS: ReadonlySet<number> = new Set([1044, 1142, 1143, 1227]);

/**
 * The settings or the rights of the session are at fault. They are those of the time when the
 * connection was opened, so another connection may work.
 */
const SESSION_ERRNOS: ReadonlySet<number> = new Set([
  ...DENIED_ERRNOS, 1104, 1175, 1661, 1662, 1663, 1664, 1665, 1666, 1667, 1781, 1782, 1792, 1844,
  3889,
]);

/**
 * The COMMIT was refused by the group after it had been sent to the members, so a majority of them
 * may have it although the server has rolled it back.
 */
const REFUSED_BY_GROUP_ERRNO = 3100;

export const READ_ONLY_REMEDY = 'set DB_HOST to the primary, or SET PERSIST read_only = OFF if this'
  + ' server is it';
export const BINLOG_REMEDY = 'SET PERSIST binlog_format = ROW';
const GRANT = 'grant the account SELECT, INSERT, UPDATE and DELETE on the database DB_NAME';
const NEW_PASSWORD = 'set a password for the account (ALTER USER … IDENTIFIED BY …) and in'
  + ' DB_PASSWORD';
const PLUGIN = 'let the account log in by a plugin that otpd knows: ALTER USER … IDENTIFIED WITH'
  + ' caching_sha2_password BY …';
const CHECK_GROUP = 'check the members of the group: SELECT * FROM'
  + ' performance_schema.replication_group_members';
const CHECK_DISK = 'check the disk and the error log of MySQL';
const CHECK_NAME = 'check the name in DB_HOST, and the name server of this machine';

/** A fault and what an operator can do about it; both are parts of one line. */
export type Advice = Readonly<{ found: string; remedy: string }>;

/** MySQL accepts the consistency without a group, where it does nothing. */
export const NO_GROUP: Advice = {
  found: 'DB_CONSISTENCY is before, and the server is in no group',
  remedy: 'remove DB_CONSISTENCY, or set up Group Replication',
};

/** The remedy for a database or a table that is missing. */
export const RUN_MIGRATE = 'run: npm run migrate (in production: node dist/main.js migrate)';

/** What an operator can do about an error, by the number of the server or the code of Node.js. */
const REMEDIES: ReadonlyMap<number | string, string> = new Map<number | string, string>([
  [1040, 'raise max_connections, or lower DB_CONNECTIONS or WORKERS'],
  [1203, 'raise max_user_connections, or lower DB_CONNECTIONS or WORKERS'],
  [1226, 'raise the limit of the account (ALTER USER … WITH MAX_USER_CONNECTIONS …), or lower'
    + ' DB_CONNECTIONS or WORKERS'],
  [1044, GRANT],
  [1142, GRANT],
  [1143, GRANT],
  [1045, 'check DB_USER and DB_PASSWORD, and from which hosts the account may connect'],
  [1698, 'check DB_USER and DB_PASSWORD, and from which hosts the account may connect'],
  [1049, RUN_MIGRATE],
  [1146, RUN_MIGRATE],
  [1129, 'too many connections of this host failed: TRUNCATE TABLE performance_schema.host_cache'
    + ' unblocks it; then find out why'],
  [1130, 'create the account for this host'],
  [1251, PLUGIN],
  [1524, PLUGIN],
  ['AUTH_SWITCH_PLUGIN_ERROR', PLUGIN],
  [1820, NEW_PASSWORD],
  [1862, NEW_PASSWORD],
  [3118, 'ALTER USER … ACCOUNT UNLOCK'],
  [3955, 'too many logins failed: check DB_PASSWORD, then ALTER USER … ACCOUNT UNLOCK'],
  [3159, 'the server accepts TLS only: set DB_TLS=verify-full or verify-ca with DB_TLS_CA, or'
    + ' DB_TLS=require'],
  ['HANDSHAKE_NO_SSL_SUPPORT', 'the server has no certificate: set ssl_cert and ssl_key there, or'
    + ' DB_TLS=off if the network is trusted'],
  ['HANDSHAKE_SSL_ERROR', 'check that DB_TLS_CA is the CA that signed the certificate of the'
    + ' server'],
  ['TLS_NAME_MISMATCH', 'the name in DB_HOST does not fit the certificate: set DB_HOST to its name,'
    + ' or DB_TLS=verify-ca, which checks the CA alone'],
  ['ENOTFOUND', CHECK_NAME],
  ['EAI_AGAIN', CHECK_NAME],
  ['EACCES', 'let the account of this process use the socket DB_SOCKET'],
  [1193, 'the server lacks a variable that otpd sets: use MySQL 8.4 or later, and for'
    + ' DB_CONSISTENCY=before Group Replication'],
  [3032, 'SET PERSIST offline_mode = OFF'],
  [1053, 'wait until MySQL has started again'],
  [1290, READ_ONLY_REMEDY],
  [1792, READ_ONLY_REMEDY],
  [1836, READ_ONLY_REMEDY],
  [1874, READ_ONLY_REMEDY],
  [3989, 'ALTER SCHEMA … READ ONLY = 0'],
  [1021, CHECK_DISK],
  [1114, CHECK_DISK],
  [3675, CHECK_DISK],
  [1665, BINLOG_REMEDY],
  ...[3098, 3100, 3796, 3797, 3798, 3799].map((errno) => [errno, CHECK_GROUP] as const),
]);

/** A failed statement. The message has the statement name and the error code, never a value. */
export class StatementError extends Error {
  readonly statement: string;
  readonly code: string;
  readonly errno: number;
  readonly errorClass: ErrorClass;
  /** What an operator can do about it, if that is known. */
  readonly remedy: string | null;

  /**
   * @param code the symbolic error code, such as ER_LOCK_DEADLOCK
   * @param errno the error number of the server, or 0
   */
  constructor(statement: string, code: string, errno: number, errorClass: ErrorClass) {
    super(`${statement}: ${code}`);
    this.name = 'StatementError';
    this.statement = statement;
    this.code = code;
    this.errno = errno;
    this.errorClass = errorClass;
    this.remedy = REMEDIES.get(errno) ?? REMEDIES.get(code) ?? null;
  }

  /** True when the account lacks a privilege. */
  get isDenied(): boolean {
    return DENIED_ERRNOS.has(this.errno);
  }

  /** True when another connection may run the statement. */
  get isOfSession(): boolean {
    return this.errorClass === 'moved' || SESSION_ERRNOS.has(this.errno);
  }

  /** True when a COMMIT that failed in this way may have taken effect. */
  get leavesDoubt(): boolean {
    return this.errorClass === 'connectionLost' || this.errno === REFUSED_BY_GROUP_ERRNO;
  }
}

type DriverError = { code?: unknown; errno?: unknown; fatal?: unknown; cert?: unknown };

/** Classifies an error of the driver. Fatal errors and network errors mean a lost connection. */
export function describeStatementError(statement: string, error: unknown): StatementError {
  if (error instanceof StatementError) return error;
  const { code, errno, fatal } = error as DriverError;
  const number = typeof errno === 'number' ? errno : typeof code === 'number' ? code : 0;
  const errorClass = ERROR_CLASS_BY_ERRNO.get(number) ?? (fatal || number < 0
    ? 'connectionLost' : 'bug');
  const name = typeof code === 'string' ? codeOf(error as DriverError, code)
    : number > 0 ? String(number) : 'CONNECTION_LOST';
  return new StatementError(statement, name, number, errorClass);
}

/** Node.js attaches the certificate when its chain is right and the name is wrong. */
function codeOf({ cert }: DriverError, code: string): string {
  return code === 'HANDSHAKE_SSL_ERROR' && cert !== undefined ? 'TLS_NAME_MISMATCH' : code;
}

/** For an error that retries did not resolve. */
export function asUnavailable(error: StatementError): Unavailable {
  return new Unavailable(error.message, { cause: error });
}

type UnavailableOptions = Readonly<{
  cause?: unknown; retryAfterSeconds?: number; remedy?: string | null;
}>;

/**
 * The database cannot answer now. The work had no effect, or its outcome is unknown and the client
 * may repeat the request with its key.
 */
export class Unavailable extends Error {
  /** Whole seconds after which a client may repeat the request. */
  readonly retryAfterSeconds: number;
  /** What an operator can do about it, if that is known; by default that of the cause. */
  readonly remedy: string | null;

  /** @param reason the failure for the log; never shown to a client */
  constructor(reason: string, { cause, retryAfterSeconds, remedy }: UnavailableOptions = {}) {
    super(reason, { cause });
    this.name = 'Unavailable';
    this.retryAfterSeconds = retryAfterSeconds ?? 1;
    this.remedy = remedy ?? (cause instanceof StatementError ? cause.remedy : null);
  }
}

export const DEADLOCK_ERRNO = 1213;

/** No further connection: max_connections, and the two limits of an account. */
const CONNECTION_LIMIT_ERRNOS: ReadonlySet<number> = new Set([1040, 1203, 1226]);

/** A limit of the server or of the account, rather than a server that is away. */
export function isLimitReached(error: unknown): boolean {
  if (error instanceof StatementError) return CONNECTION_LIMIT_ERRNOS.has(error.errno);
  return error instanceof Unavailable && isLimitReached(error.cause);
}

/**
 * Why there is no primary.
 *
 * - `database`: no host answers.
 * - `read_only`: no host takes writes.
 * - `quorum`: the host that takes writes sees no majority of its group.
 * - `split`: two hosts take writes, and are not of one group, so their data diverge.
 */
export type PrimaryFault = 'database' | 'read_only' | 'quorum' | 'split';

export const NO_PRIMARY_REMEDIES: Readonly<Record<PrimaryFault, string>> = {
  database: 'check that MySQL 8.0.19 or later answers at the hosts of DB_HOST',
  read_only: READ_ONLY_REMEDY,
  quorum: 'start the other members of the group again (docs/deploy.md, "Loss of the majority")',
  split: 'make all but one of them read-only: SET PERSIST super_read_only = ON',
};

export class NoPrimary extends Unavailable {
  readonly fault: PrimaryFault;

  constructor(fault: PrimaryFault, reason: string, cause?: unknown) {
    const remedy = cause instanceof Unavailable ? cause.remedy : null;
    super(reason, { cause, remedy: remedy ?? NO_PRIMARY_REMEDIES[fault] });
    this.fault = fault;
  }
}
