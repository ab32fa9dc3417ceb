/**
 * Applies the schema files that a database lacks, and reports which ones it lacks. Any number of
 * processes may migrate at once. A file that was interrupted is resumed.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Deadline } from './clock.ts';
import { openConnection } from './connection.ts';
import type { DatabaseSettings, Connection } from './connection.ts';
import { RUN_MIGRATE, StatementError } from './errors.ts';
import { useConnection } from './pool.ts';
import type { ConnectionPool } from './pool.ts';
import type { Row } from './query.ts';

/** The schema files of a database compared with those of this otpd. */
type SchemaStatus = Readonly<{
  /** Names of files that were never applied, or only in part. */
  pending: string[];
  /** Why this otpd must not use the database; null: it may. */
  conflict: SchemaConflict | null;
}>;

type SchemaConflict = Readonly<{ reason: string; remedy: string }>;

/** The schema is not as this otpd needs it, or cannot be changed. */
export class SchemaError extends Error {
  override name = 'SchemaError';
  /** What to do, unless the message says it. */
  readonly remedy: string | null;

  constructor(message: string, { cause }: Readonly<{ cause?: unknown }> = {}) {
    super(message, { cause });
    this.remedy = cause instanceof StatementError ? cause.remedy : null;
  }
}

/** Bounds the wait for a connection; the wait for the migration lock has its own bound. */
const CONNECT_TIMEOUT_MS = 3000;

/** Long enough to outlast another migration. */
const LOCK_WAIT_SECONDS = 600;

/** Errors that mean that a statement of an interrupted file has already been applied. */
const ALREADY_APPLIED_ERRNOS: ReadonlySet<number> = new Set([
  1050, // table exists
  1060, // duplicate column name
  1061, // duplicate key name
  1091, // nothing to drop
]);

const NO_SUCH_TABLE_ERRNO = 1146;

/**
 * Compares the schema of a database with the files. Needs the SELECT privilege only.
 *
 * @throws StatementError, Unavailable when the database cannot be read
 */
export async function readSchemaStatus(
  pool: ConnectionPool,
  files: readonly SchemaFile[] = readSchemaFiles(),
): Promise<SchemaStatus> {
  return withConnection(pool, (connection) => readSchemaStatusOn(connection, files));
}

export async function readSchemaStatusOn(
  connection: Connection,
  files: readonly SchemaFile[],
): Promise<SchemaStatus> {
  return toSchemaStatus(await readApplied(connection), files);
}

/**
 * Applies the pending files. Without one, only reads.
 *
 * @param onProgress receives one line per file
 * @returns the number of applied files
 * @throws SchemaError when a file fails, or, before any change, when the database has a file that
 *   this otpd lacks
 */
export async function migrate(
  pool: ConnectionPool,
  onProgress: (line: string) => void,
  files: readonly SchemaFile[] = readSchemaFiles(),
): Promise<number> {
  return withConnection(pool, async (worker) => {
    const status = await readSchemaStatusOn(worker, files);
    throwOnConflict(status);
    if (status.pending.length === 0) return 0;
    const wait = `SET innodb_lock_wait_timeout = ${LOCK_WAIT_SECONDS},
      lock_wait_timeout = ${LOCK_WAIT_SECONDS}`;
    await worker.run('migrate.wait', wait, []);
    // The first file creates the table that holds the lock; applying it again changes nothing.
    for (const file of files.slice(0, 1)) await applyFile(worker, file, true);
    // DDL commits the transaction of its connection, so another connection holds the lock.
    return withConnection(pool, async (lockHolder) => {
      await lockHolder.run('migrate.wait', wait, []);
      const lock = 'SELECT version FROM schema_migrations WHERE version = 0 FOR UPDATE';
      await lockHolder.run('migrate.lock', lock, []);
      const count = await applyPending(worker, files, onProgress);
      await lockHolder.run('rollback', 'ROLLBACK', []);
      return count;
    });
  });
}

async function applyPending(
  connection: Connection,
  files: readonly SchemaFile[],
  onProgress: (line: string) => void,
): Promise<number> {
  const applied = await readApplied(connection);
  const status = toSchemaStatus(applied, files);
  // Another version may have migrated while this process waited for the lock.
  throwOnConflict(status);
  const { pending } = status;
  // An empty database gets all files but the first, which is applied.
  const isEmpty = pending.length === files.length - 1
    && !files.slice(1).some(({ version }) => applied.has(version));
  if (isEmpty) onProgress(`schema ${pending[0]} to ${pending.at(-1)}: applying`);
  for (const file of files) {
    if (!pending.includes(file.name)) continue;
    const isHalfApplied = applied.has(file.version);
    if (isHalfApplied) onProgress(`schema ${file.name}: resuming an interrupted file`);
    else if (!isEmpty) onProgress(`schema ${file.name}: applying`);
    await applyFile(connection, file, isHalfApplied);
  }
  return pending.length;
}

async function applyFile(
  connection: Connection,
  file: SchemaFile,
  isResumed: boolean,
): Promise<void> {
  for (const sql of file.statements) {
    try {
      await connection.run(file.name, sql, []);
      await connection.run('commit', 'COMMIT', []);
    } catch (error) {
      if (!(error instanceof StatementError)) throw error;
      if (isResumed && ALREADY_APPLIED_ERRNOS.has(error.errno)) continue;
      if (error.isDenied) throw await denied(connection, sql, `schema/${file.name}.sql`);
      const position = file.statements.indexOf(sql) + 1;
      throw new SchemaError(
        `statement ${position} of schema/${file.name}.sql failed: ${error.message}`,
        { cause: error },
      );
    }
  }
}

/** Names the account and the privilege that a statement needs, which is its first word. */
async function denied(connection: Connection, sql: string, what: string): Promise<SchemaError> {
  const [row] = await connection.run('migrate.account', 'SELECT CURRENT_USER() AS account', []);
  const privilege = /^\w+/.exec(sql)?.[0];
  return new SchemaError(`the account ${row?.account} lacks ${privilege} on the database, which`
    + ` ${what} needs; set DB_USER to an account that may create and alter tables`);
}

/** @throws SchemaError when the database has a file that this otpd lacks */
export function throwOnConflict({ conflict }: SchemaStatus): void {
  if (conflict !== null) throw new SchemaError(`${conflict.reason}\n${conflict.remedy}`);
}

type Applied = Readonly<{ name: string; isFinished: boolean }>;

async function readApplied(connection: Connection): Promise<Map<number, Applied>> {
  const sql = 'SELECT version, name, finished_at FROM schema_migrations WHERE version > 0';
  try {
    const rows = await connection.run('schema_migrations.load', sql, []);
    await connection.run('rollback', 'ROLLBACK', []);
    return new Map(rows.map((row: Row) => [row.version as number, {
      name: row.name as string, isFinished: row.finished_at !== null,
    }]));
  } catch (error) {
    if (error instanceof StatementError && error.errno === NO_SUCH_TABLE_ERRNO) return new Map();
    throw error;
  }
}

function toSchemaStatus(applied: Map<number, Applied>, files: readonly SchemaFile[]): SchemaStatus {
  const pending = files.filter(({ version }) => applied.get(version)?.isFinished !== true);
  return { pending: pending.map(({ name }) => name), conflict: findConflict(applied, files) };
}

/**
 * Released files are never renamed. An unknown name under a known number is therefore one of the 13
 * files from before the first release; an unknown number is from a newer otpd.
 */
function findConflict(
  applied: Map<number, Applied>,
  files: readonly SchemaFile[],
): SchemaConflict | null {
  const names = new Map(files.map(({ version, name }) => [version, name]));
  const [first] = [...applied].filter(([version, { name }]) => names.get(version) !== name)
    .sort(([a], [b]) => a - b);
  if (first === undefined) return null;
  const [version, { name }] = first;
  return names.has(version)
    ? { reason: `the database has schema file ${name} from before the first release`,
      remedy: `use a new database: set DB_NAME to an unused name, then ${RUN_MIGRATE}` }
    : { reason: `the database has schema file ${name} of a newer otpd`,
      remedy: 'run that version or a later one (docs/upgrade-and-backup.md, "Upgrade")' };
}

/** The deadline bounds the wait for a connection, and not the work. */
function withConnection<T>(
  pool: ConnectionPool,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const deadline = new Deadline(CONNECT_TIMEOUT_MS);
  return useConnection(pool, deadline, (connection) => {
    deadline.clear();
    return work(connection);
  }).finally(() => deadline.clear());
}

/** Names that are safe between backticks. */
export const DATABASE_NAME = /^[A-Za-z0-9_$-]{1,64}$/;

const UNKNOWN_DATABASE_ERRNO = 1049;

/**
 * Creates the database unless it exists; only then does the account need the privilege to do so.
 *
 * @throws Unavailable when the server cannot be reached
 * @throws SchemaError when the account lacks the privilege
 */
export async function createDatabase(settings: DatabaseSettings): Promise<void> {
  if (await databaseExists(settings)) return;
  const { database } = settings;
  if (database === null || !DATABASE_NAME.test(database)) throw new Error('no database name');
  const connection = await openConnection({ ...settings, database: null });
  const sql = `CREATE DATABASE IF NOT EXISTS \`${database}\``;
  try {
    await connection.run('database.create', sql, []);
  } catch (error) {
    if (!(error instanceof StatementError) || !error.isDenied) throw error;
    throw await denied(connection, sql, `creating ${database}`);
  } finally {
    connection.destroy();
  }
}

async function databaseExists(settings: DatabaseSettings): Promise<boolean> {
  try {
    (await openConnection(settings)).destroy();
    return true;
  } catch (error) {
    const { cause } = error as Error;
    if (cause instanceof StatementError && cause.errno === UNKNOWN_DATABASE_ERRNO) return false;
    throw error;
  }
}

/** `name` is the file name without `.sql`. */
export type SchemaFile = Readonly<{ version: number; name: string; statements: string[] }>;

/** The relative path is the same from src/ and from dist/. */
export const SCHEMA_FOLDER = fileURLToPath(new URL('../../schema/', import.meta.url));

const FILE_NAME = /^(\d{4})-[a-z0-9-]+\.sql$/;

/**
 * Reads the schema files of a folder, in order.
 *
 * @throws Error when a file is misnamed, or the numbers are not 1, 2, 3 …
 */
export function readSchemaFiles(folder: string = SCHEMA_FOLDER): SchemaFile[] {
  const names = readdirSync(folder).filter((name) => name.endsWith('.sql')).sort();
  return names.map((fileName, index) => {
    const version = Number(FILE_NAME.exec(fileName)?.[1]);
    if (version !== index + 1) {
      throw new Error(`schema/${fileName} must have the number ${index + 1}`);
    }
    const statements = splitStatements(readFileSync(`${folder}/${fileName}`, 'utf8'));
    return { version, name: fileName.replace(/\.sql$/, ''), statements };
  });
}

/**
 * Splits a schema file. A statement ends with a semicolon at the end of a line; a line that starts
 * with `--` is a comment.
 */
export function splitStatements(text: string): string[] {
  const lines = text.split('\n').filter((line) => !line.trimStart().startsWith('--'));
  const parts = lines.join('\n').split(/;[ \t]*(?:\n|$)/);
  return parts.map((part) => part.trim()).filter((part) => part !== '');
}
