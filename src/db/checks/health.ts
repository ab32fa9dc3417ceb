/**
 * Whether a database can serve: reachable, with the current schema, and a write of its own commits.
 */
import { Deadline, monotonicMs } from '../clock.ts';
import type { Connection } from '../connection.ts';
import { BINLOG_REMEDY, READ_ONLY_REMEDY, StatementError } from '../errors.ts';
import type { Advice } from '../errors.ts';
import { readSchemaFiles, readSchemaStatusOn } from '../migrate.ts';
import { isLimitReached, useConnection } from '../pool.ts';
import type { ConnectionPool } from '../pool.ts';

/**
 * - `database`: unreachable, or no answer in time.
 * - `read_only`: the server accepts no writes, as a replica does.
 * - `binlog_format`: the server refuses the writes of READ COMMITTED transactions.
 * - `quorum`: the server sees no majority of its group, so no commit succeeds.
 * - `writes`: a write failed, or did not commit in time.
 * - `schema`: migrations are pending.
 */
type HealthError = WriteObstacle['check'] | 'database' | 'quorum' | 'writes' | 'schema';

/** A setting of the server because of which no write succeeds. */
export type WriteObstacle = Advice & Readonly<{ check: 'read_only' | 'binlog_format' }>;

/** Leaves time for the response within the 1 s timeout of a typical probe. */
const CHECK_TIMEOUT_MS = 800;

/** Leaves time for another connection, if this one was lost since the last check. */
const FIRST_ANSWER_MS = 300;

/** At a start nobody waits, and a busy server must not look like one that refuses. */
const START_TIMEOUT_MS = 5000;

/** Bounds the load: frequent probes cause at most four checks per second. */
const RESULT_MAX_AGE_MS = 250;

/** SHOW leaves out what a version lacks, and needs no privilege. */
const SETTINGS_SQL = `SHOW GLOBAL VARIABLES WHERE variable_name IN ('read_only', 'super_read_only',
  'innodb_read_only', 'log_bin', 'binlog_format', 'group_replication_group_name')`;

type Settings = ReadonlyMap<string, string>;

async function readSettings(connection: Connection): Promise<Settings> {
  const rows = await connection.run('check.settings', SETTINGS_SQL, []);
  return new Map(rows.map(({ Variable_name, Value }) => [String(Variable_name), String(Value)]));
}

/** The obstacles that show in global variables, so that they also hold for later connections. */
export async function findWriteObstacles(connection: Connection): Promise<WriteObstacle[]> {
  return toObstacles(await readSettings(connection));
}

function toObstacles(settings: Settings): WriteObstacle[] {
  const obstacles: WriteObstacle[] = [];
  const readOnly = ['super_read_only', 'read_only', 'innodb_read_only']
    .find((name) => settings.get(name) === 'ON');
  if (readOnly !== undefined) {
    obstacles.push({ check: 'read_only', found: `${readOnly} is on`, remedy: READ_ONLY_REMEDY });
  }
  if (settings.get('log_bin') === 'ON' && settings.get('binlog_format') === 'STATEMENT') {
    obstacles.push({
      check: 'binlog_format',
      found: 'binlog_format is STATEMENT, with which MySQL refuses every write of otpd',
      remedy: BINLOG_REMEDY,
    });
  }
  return obstacles;
}

const TRIAL = ['INSERT INTO write_checks (connection_id) VALUES (CONNECTION_ID())',
  'DELETE FROM write_checks WHERE connection_id = CONNECTION_ID()', 'COMMIT']
  .map((sql) => ({ sql, values: [] }));

/**
 * Commits a write that leaves no row.
 *
 * @throws StatementError when it fails
 */
async function commitTrial(connection: Connection): Promise<void> {
  await connection.runAll('check.write', TRIAL);
}

/**
 * The error with which the server refuses a write; null when a write commits. A server that is
 * slow, or that lost the connection, does not refuse.
 */
export async function findWriteRefusal(pool: ConnectionPool): Promise<StatementError | null> {
  const deadline = new Deadline(START_TIMEOUT_MS);
  try {
    const failure = await useConnection(pool, deadline, commitTrial).then(() => null, toFailure);
    const isPassing = ['retry', 'connectionLost'].includes(failure?.errorClass ?? '');
    return isPassing ? null : failure;
  } finally {
    deadline.clear();
  }
}

function toFailure(error: unknown): StatementError {
  if (error instanceof StatementError) return error;
  throw error;
}

const MEMBERS_SQL = `SELECT COUNT(*) AS members,
    COALESCE(SUM(member_state <> 'UNREACHABLE'), 0) AS reachable
  FROM performance_schema.replication_group_members`;

/** False, too, when the account may not read the table. */
async function lacksQuorum(connection: Connection): Promise<boolean> {
  try {
    const [row] = await connection.run('check.members', MEMBERS_SQL, []);
    const [members, reachable] = [Number(row?.members), Number(row?.reachable)];
    return members > 1 && reachable * 2 <= members;
  } catch (error) {
    if (error instanceof StatementError && error.isDenied) return false;
    throw error;
  }
}

/** Runs one check at a time, and shares its result between concurrent callers. */
export class DatabaseCheck {
  readonly #pool: ConnectionPool;
  readonly #servingPool: ConnectionPool | null;
  readonly #files = readSchemaFiles();
  #running: Promise<readonly HealthError[]> | null = null;
  #latest: readonly HealthError[] = [];
  #checkedAtMs = -Infinity;

  /**
   * @param pool a pool of one connection for this check only: a busy pool may have none free
   * @param servingPool lends a connection when the server allows no further one
   */
  constructor(pool: ConnectionPool, servingPool: ConnectionPool | null = null) {
    this.#pool = pool;
    this.#servingPool = servingPool;
    // Otherwise the last connection that the server allows could be kept for checks alone.
    if (servingPool !== null) servingPool.onLimit = () => pool.closeIdle();
  }

  /** The result of the latest check, at most RESULT_MAX_AGE_MS old. Never rejects. */
  async errors(): Promise<readonly HealthError[]> {
    if (this.#running !== null) return this.#running;
    if (monotonicMs() - this.#checkedAtMs < RESULT_MAX_AGE_MS) return this.#latest;
    this.#running = this.#check();
    this.#latest = await this.#running;
    this.#checkedAtMs = monotonicMs();
    this.#running = null;
    return this.#latest;
  }

  async #check(): Promise<readonly HealthError[]> {
    const startedAtMs = monotonicMs();
    const first = await this.#attempt(this.#pool, startedAtMs, FIRST_ANSWER_MS);
    if (!(first instanceof Error)) return first;
    const pool = isLimitReached(first) ? this.#servingPool ?? this.#pool : this.#pool;
    const second = await this.#attempt(pool, startedAtMs, CHECK_TIMEOUT_MS);
    return second instanceof Error ? ['database'] : second;
  }

  /** @returns the error of a connection that gave no answer within `answerMs` of the start */
  async #attempt(
    pool: ConnectionPool,
    startedAtMs: number,
    answerMs: number,
  ): Promise<readonly HealthError[] | Error> {
    let deadline = new Deadline(startedAtMs + answerMs - monotonicMs());
    let isWriting = false;
    try {
      return await useConnection(pool, deadline, async (connection) => {
        const settings = await readSettings(connection);
        deadline.clear();
        deadline = new Deadline(startedAtMs + CHECK_TIMEOUT_MS - monotonicMs());
        deadline.onEnd(connection.destroy);
        const errors = await this.#inspect(connection, settings);
        if (errors.length > 0) return errors;
        isWriting = true;
        const isInGroup = (settings.get('group_replication_group_name') ?? '') !== '';
        if (isInGroup && (await lacksQuorum(connection))) return ['quorum'];
        await commitTrial(connection);
        return [];
      });
    } catch (error) {
      const isLost = error instanceof StatementError && error.errorClass === 'connectionLost';
      return isWriting && (deadline.isOver || !isLost) ? ['writes'] : error as Error;
    } finally {
      deadline.clear();
    }
  }

  /** The errors that reading shows. */
  async #inspect(connection: Connection, settings: Settings): Promise<HealthError[]> {
    const errors: HealthError[] = toObstacles(settings).map(({ check }) => check);
    const { pending } = await readSchemaStatusOn(connection, this.#files);
    // A newer schema is no error: during an upgrade older processes still serve.
    if (pending.length > 0) errors.push('schema');
    if (errors.length > 0) await connection.run('rollback', 'ROLLBACK', []);
    return errors;
  }
}
