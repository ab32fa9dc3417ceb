/**
 * Brings a database to the newest schema file, and tells how far it is. Safe when many processes
 * start at once; a file that was left half-applied is named and resumed.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { openConnection } from './connection.ts';
import type { DatabaseSettings, Row, Connection } from './connection.ts';
import { Deadline } from './deadline.ts';
import { StatementError } from './errors.ts';
import type { ConnectionPool } from './pool.ts';

/** The difference between the schema files of a database and those of this otpd. */
type SchemaStatus = Readonly<{
  /** Names of files that were not applied, or not to their end. */
  pending: string[];
  /** Why this otpd must not touch the database; null when it may. */
  conflict: SchemaConflict | null;
}>;

/** A file in the database that this otpd does not have. */
type SchemaConflict = Readonly<{ reason: string; remedy: string }>;

/** A database that this otpd must not work on; the message says why and what to do. */
export class SchemaError extends Error {
  override name = 'SchemaError';
}

/** How long a migration waits for a session; one that waits for another's lock waits longer. */
const CONNECT_TIMEOUT_MS = 3000;

/** A migration that waits for another must outlast it. */
const LOCK_WAIT_SECONDS = 600;

/** Errors by which a statement says that it was carried out before. */
const ALREADY_APPLIED_ERRNOS: ReadonlySet<number> = new Set([
  1050, // table exists
  1060, // duplicate column name
  1061, // duplicate key name
  1091, // cannot drop: it is not there
]);

const NO_SUCH_TABLE_ERRNO = 1146;

/**
 * Reads how far the database is. Needs no more than SELECT.
 *
 * @throws StatementError, Unavailable when it cannot be read
 */
export async function readSchemaStatus(
  pool: ConnectionPool,
  files: readonly SchemaFile[] = readSchemaFiles(),
): Promise<SchemaStatus> {
  return withConnection(pool, (connection) => readSchemaStatusOn(connection, files));
}

/** Reads in one session how far its database is. Throws StatementError. */
export async function readSchemaStatusOn(
  connection: Connection,
  files: readonly SchemaFile[],
): Promise<SchemaStatus> {
  return toSchemaStatus(await readApplied(connection), files);
}

/**
 * Applies what is pending.
 *
 * @param say is told what is done, a line at a time
 * @returns how many files were applied
 * @throws SchemaError when the database has a file that this otpd does not have; nothing is
 *   changed then. Also when a file fails.
 */
export async function migrate(
  pool: ConnectionPool,
  onProgress: (line: string) => void,
  files: readonly SchemaFile[] = readSchemaFiles(),
): Promise<number> {
  return withConnection(pool, async (worker) => {
    throwOnConflict(await readSchemaStatusOn(worker, files));
    // The first file makes the table that holds the lock; it may run any number of times.
    for (const sql of files[0]?.statements ?? []) await worker.run('migrate', sql, []);
    await worker.run('commit', 'COMMIT', []);
    // DDL commits whatever its session holds, so the lock is held by a session of its own.
    return withConnection(pool, async (lockHolder) => {
      const wait = `SET innodb_lock_wait_timeout = ${LOCK_WAIT_SECONDS}`;
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
  // A runner of another version may have held the lock until now.
  throwOnConflict(status);
  const { pending } = status;
  for (const file of files) {
    if (!pending.includes(file.name)) continue;
    const isHalfApplied = applied.has(file.version);
    onProgress(isHalfApplied
      ? `schema ${file.name}: it was left half-applied; resuming it`
      : `schema ${file.name}: applying`);
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
      const position = file.statements.indexOf(sql) + 1;
      throw new SchemaError(
        `statement ${position} of schema/${file.name}.sql failed: ${error.message}`,
        { cause: error },
      );
    }
  }
}

/**
 * Refuses a database that has a schema file unknown to this otpd.
 *
 * @throws SchemaError naming the file and what to do
 */
export function throwOnConflict({ conflict }: SchemaStatus): void {
  if (conflict !== null) throw new SchemaError(`${conflict.reason}\n${conflict.remedy}`);
}

/** A file that the database has seen. */
type Applied = Readonly<{ name: string; isFinished: boolean }>;

/** Version by version, what was applied. */
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
 * Released files never change their names, so an unknown name under a known number is from before
 * the first release, whose 13 files were replaced. An unknown number is from a newer otpd.
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
    ? { reason: `the database has the schema file ${name}, of an otpd before the first release`,
      remedy: 'use a new database: set DB_NAME to an unused name, then run: npm run migrate' }
    : { reason: `the database has the schema file ${name}, of an otpd newer than this otpd`,
      remedy: 'run that otpd or a newer one (docs/upgrade-and-backup.md, "Upgrade")' };
}

async function withConnection<T>(
  pool: ConnectionPool,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const deadline = new Deadline(CONNECT_TIMEOUT_MS);
  const connection = await pool.acquire(deadline).finally(() => deadline.clear());
  try {
    return await work(connection);
  } catch (error) {
    connection.destroy();
    throw error;
  } finally {
    pool.release(connection);
  }
}

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
  if (await databaseExists(settings)) return;
  const { database } = settings;
  if (database === null || !DATABASE_NAME.test(database)) throw new Error('no database name');
  const connection = await openConnection({ ...settings, database: null });
  try {
    await connection.run('database.create', `CREATE DATABASE IF NOT EXISTS \`${database}\``, []);
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

/** One file: its number, its name without the ending, its statements in order. */
export type SchemaFile = Readonly<{ version: number; name: string; statements: string[] }>;

/** schema/ beside src/ and beside dist/ alike. */
export const SCHEMA_FOLDER = fileURLToPath(new URL('../../schema/', import.meta.url));

const FILE_NAME = /^(\d{4})-[a-z0-9-]+\.sql$/;

/**
 * Reads the schema files of a folder.
 *
 * @returns the files by number
 * @throws Error when a file is misnamed, or the numbers are not 1, 2, 3 …
 */
export function readSchemaFiles(folder: string = SCHEMA_FOLDER): SchemaFile[] {
  const names = readdirSync(folder).filter((name) => name.endsWith('.sql')).sort();
  return names.map((fileName, index) => {
    const version = Number(FILE_NAME.exec(fileName)?.[1]);
    if (version !== index + 1) throw new Error(`schema/${fileName} is not numbered ${index + 1}`);
    const statements = splitStatements(readFileSync(`${folder}/${fileName}`, 'utf8'));
    return { version, name: fileName.replace(/\.sql$/, ''), statements };
  });
}

/**
 * Splits the text of a schema file: a statement ends with a semicolon at the end of a line, a
 * comment is a line that starts with `--`.
 */
export function splitStatements(text: string): string[] {
  const lines = text.split('\n').filter((line) => !line.trimStart().startsWith('--'));
  const parts = lines.join('\n').split(/;[ \t]*(?:\n|$)/);
  return parts.map((part) => part.trim()).filter((part) => part !== '');
}
