/**
 * Whether a database can serve: reachable, with the current schema, and a write of its own commits;
 * and which of its hosts is the primary.
 */
import { Deadline, monotonicMs } from '../clock.ts';
import { hostLabel, openConnection } from '../connection.ts';
import type { Connection, DatabaseSettings } from '../connection.ts';
import {
  asUnavailable, BINLOG_REMEDY, isLimitReached, NoPrimary, READ_ONLY_REMEDY, StatementError,
  Unavailable,
} from '../errors.ts';
import type { Advice, PrimaryFault } from '../errors.ts';
import { describeRole, faultOf, isPrimary, readRole } from './inspect.ts';
import type { Role } from './inspect.ts';
import { readSchemaFiles, readSchemaStatusOn } from '../migrate.ts';
import { useConnection } from '../pool.ts';
import type { ConnectionPool } from '../pool.ts';
import { NO_SETUP_SQL } from '../session.ts';

/**
 * - `database`: unreachable, or no answer in time.
 * - `read_only`: the server accepts no writes, as a replica does.
 * - `binlog_format`: the server refuses the writes of READ COMMITTED transactions.
 * - `quorum`: the server sees no majority of its group, so no commit succeeds.
 * - `split`: two hosts take writes and are not of one group.
 * - `writes`: a write failed, or did not commit in time.
 * - `schema`: migrations are pending.
 */
type HealthError = WriteObstacle['check'] | PrimaryFault | 'writes' | 'schema';

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

/** The obstacles in global variables, which also hold for later connections. */
export async function findWriteObstacles(connection: Connection): Promise<WriteObstacle[]> {
  return toObstacles(await readSettings(connection));
}

/** True also for a member that has left its group. */
export function isInGroup(variables: ReadonlyMap<string, string>): boolean {
  return (variables.get('group_replication_group_name') ?? '') !== '';
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

/** Another host may be the primary. */
const MOVED: readonly HealthError[] = ['read_only', 'quorum'];

/** Runs one check at a time, and shares its result between concurrent callers. */
export class DatabaseCheck {
  readonly #pool: ConnectionPool;
  readonly #servingPool: ConnectionPool | null;
  readonly #findFault: () => PrimaryFault | null;
  readonly #files = readSchemaFiles();
  readonly #access = { seesGroup: true };
  #running: Promise<readonly HealthError[]> | null = null;
  #latest: readonly HealthError[] = [];
  #checkedAtMs = -Infinity;

  /**
   * @param pool a pool of one connection for this check only: a busy pool may have none free
   * @param servingPool lends a connection when the server allows no further one
   * @param findFault why no host is the primary, or null
   */
  constructor(
    pool: ConnectionPool,
    servingPool: ConnectionPool | null = null,
    findFault: () => PrimaryFault | null = () => null,
  ) {
    this.#pool = pool;
    this.#servingPool = servingPool;
    this.#findFault = findFault;
    if (servingPool === null) return;
    // Otherwise the last connection that the server allows could be kept for checks alone.
    const { onLimit } = servingPool;
    servingPool.onLimit = () => {
      onLimit();
      pool.closeIdle();
    };
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
    // The watch of the primary keeps the fault up to date, and a new session would wait.
    const fault = this.#findFault();
    if (fault !== null) return [fault];
    const startedAtMs = monotonicMs();
    const first = await this.#attempt(this.#pool, startedAtMs, FIRST_ANSWER_MS);
    if (!(first instanceof Error)) {
      if (!first.some((error) => MOVED.includes(error))) return first;
      this.#pool.closeIdle();
    }
    const pool = isLimitReached(first) ? this.#servingPool ?? this.#pool : this.#pool;
    const second = await this.#attempt(pool, startedAtMs, CHECK_TIMEOUT_MS);
    if (!(second instanceof Error)) return second;
    return second instanceof NoPrimary ? [second.fault] : [this.#findFault() ?? 'database'];
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
        if (isInGroup(settings)) {
          const role = await readRole(connection, this.#access);
          if (!role.hasQuorum) return ['quorum'];
        }
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
    // A newer schema is not an error: during an upgrade older processes still serve.
    if (pending.length > 0) errors.push('schema');
    if (errors.length > 0) await connection.run('rollback', 'ROLLBACK', []);
    return errors;
  }
}

export type Server = {
  readonly settings: DatabaseSettings;
  readonly label: string;
  /** False when the account may not see the group there, which is then not tried again. */
  seesGroup: boolean;
};

/** What a search learned of a server; `role` is null when it did not answer. */
export type Answer = Readonly<{ server: Server; role: Role | null; error: unknown }>;

export function createServer(settings: DatabaseSettings): Server {
  return { settings, label: hostLabel(settings), seesGroup: true };
}

export type Asked = Readonly<{ connection: Connection; role: Role }>;

/**
 * Asks a server for its role; fails after `ms`. A connection that fails or is late is closed.
 *
 * @throws Unavailable
 */
export async function ask(
  opening: Promise<Connection>,
  server: Server,
  ms: number,
): Promise<Asked> {
  const deadline = new Deadline(ms);
  const late = new Promise<never>((_, reject) => {
    deadline.onEnd(() => reject(new Unavailable(`no answer within ${ms / 1000} s`)));
  });
  try {
    const asked = opening.then(async (connection) =>
      ({ connection, role: await readRole(connection, server) }));
    return await Promise.race([asked, late]);
  } catch (error) {
    opening.then((connection) => connection.destroy(), () => {});
    throw error instanceof StatementError ? asUnavailable(error) : error;
  } finally {
    deadline.clear();
  }
}

export function openBare({ settings }: Server): Promise<Connection> {
  return openConnection({ ...settings, database: null }, NO_SETUP_SQL);
}

type Pending = Readonly<{ server: Server; answer: Promise<Answer> }>;

/** The first that says it is the primary, whatever the others say or do not say. */
export function firstPrimary(asked: readonly Pending[]): Promise<Server | null> {
  return Promise.any(asked.map(async ({ server, answer }) => {
    if (isPrimary((await answer).role)) return server;
    throw new Unavailable('not the primary');
  })).catch(() => null);
}

export function toNoPrimary(answers: readonly Answer[]): NoPrimary {
  const errors = answers.flatMap(({ error }) => error ?? []);
  const cause = errors.find(isLimitReached) ?? errors[0];
  const fault = faultOf(answers.flatMap(({ role }) => role ?? []));
  const words = answers.map(({ server, role, error }) =>
    `${server.label} ${role === null ? (error as Error).message : describeRole(role)}`);
  return new NoPrimary(fault, `no primary: ${words.join(', ')}`, cause);
}

/** A host answers within milliseconds; in a search all are asked at once. */
const ASK_MS = 600;

export async function askOnce(server: Server): Promise<Answer> {
  try {
    const { connection, role } = await ask(openBare(server), server, ASK_MS);
    connection.destroy();
    return { server, role, error: null };
  } catch (error) {
    return { server, role: null, error };
  }
}
