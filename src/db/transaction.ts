/**
 * Runs work in a transaction: COMMIT when the work returns, ROLLBACK when the work throws, a rerun
 * after a lost race, and a probe after a COMMIT without an answer.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ANSWER_MS, Deadline, monotonicMs } from './clock.ts';
import type { Connection } from './connection.ts';
import { asUnavailable, StatementError, Unavailable } from './errors.ts';
import { MICROSECONDS_PER_MILLISECOND } from './instant.ts';
import type { ConnectionPool } from './pool.ts';
import { write } from './query.ts';
import type { Query, Write } from './query.ts';

export type Transaction = {
  /** Runs statements in one round trip, in order; throws StatementError. */
  readonly read: <Q extends readonly Query<unknown>[]>(...queries: Q) => Promise<Answers<Q>>;
  /** Does the same and ends the transaction by ROLLBACK in the same round trip. */
  readonly readAndEnd: <Q extends readonly Query<unknown>[]>(...queries: Q) => Promise<Answers<Q>>;
  /** Runs writes in one round trip; they are committed, whatever the work does later. */
  readonly writeNow: (...writes: readonly Write[]) => Promise<void>;
  /** Statements that are sent with the COMMIT in one round trip, in order. */
  readonly writes: Write[];
  /** Work that uses the COMMIT of this transaction. */
  readonly riders: Rider[];
  /**
   * Ends the transaction by ROLLBACK, which costs no flush to disk, unless something was written at
   * once. Drops its other writes.
   */
  readonly readOnly: () => void;
  /**
   * Sets the query that tells, in a later transaction, whether a COMMIT without an answer took
   * effect. The query must be a locking read, because the server may still be committing. Without
   * a probe an unknown outcome ends as Unavailable.
   */
  readonly commitProbe: (probe: Query<boolean>) => void;
};

/** Work that uses the COMMIT of a transaction, because a COMMIT costs a flush to disk. */
export type Rider = Readonly<{
  /** Adds writes when all locks of the transaction are held; not called when it only reads. */
  beforeCommit: (tx: Transaction) => void | Promise<void>;
  /** Runs once the transaction has ended; false also when its outcome is unknown. */
  afterCommit: (committed: boolean) => void;
}>;

/** The results of queries, in their order. */
type Answers<Q extends readonly Query<unknown>[]> = {
  -readonly [K in keyof Q]: Q[K] extends Query<infer T> ? T : never;
};

/** What is kept of the time of a request for the commit probe. */
const PROBE_MS = 600;

/** Each rerun means that another transaction won a race, so a few reruns suffice. */
const ATTEMPTS_MAX = 8;
const RERUN_DELAY_MAX_MS = 8;

/** A planned move takes about 20 ms, and the reruns together last as long as a request. */
const MOVED_DELAY_MS = 50;

const COMMIT = write('commit', 'COMMIT', []);
const ROLLBACK = write('rollback', 'ROLLBACK', []);

type Options<T> = Readonly<{
  /** When the result is due, by monotonicMs(): it bounds every wait, rerun and probe together. */
  answerByMs?: number | undefined;
  /** Gets the result of work whose COMMIT has perhaps happened; the caller gets Unavailable. */
  onUnknown?: (result: T) => void;
}>;

/**
 * Runs work in one READ COMMITTED transaction. The work may run several times and must have no
 * effect outside its transaction. Its result is returned once the COMMIT is durable.
 *
 * @throws Unavailable when the database does not answer within the bound, or an error of the work
 *   after ROLLBACK
 */
export async function transaction<T>(
  pool: ConnectionPool,
  work: (tx: Transaction) => Promise<T>,
  { answerByMs = monotonicMs() + ANSWER_MS, onUnknown }: Options<T> = {},
): Promise<T> {
  const deadline = new Deadline(answerByMs - PROBE_MS - monotonicMs());
  try {
    for (let attempt = 1; ; attempt += 1) {
      const riders: Rider[] = [];
      let committed = false;
      let end: Attempt<T>;
      try {
        end = await attemptOnce(pool, deadline, riders, work);
        if (end.failure === null) {
          committed = end.committed;
          return end.result;
        }
        if (end.probe !== null) {
          committed = await settle(pool, end, answerByMs, onUnknown);
          if (committed) return end.result;
        }
      } finally {
        for (const rider of riders) rider.afterCommit(committed);
      }
      if (attempt === ATTEMPTS_MAX || deadline.isOver || !mayRerun(end.failure)) {
        throw asUnavailable(end.failure);
      }
      pool.counts.retries += 1;
      const movedMs = end.failure.errorClass === 'moved' ? MOVED_DELAY_MS * attempt : 0;
      await delay(movedMs + jitterMs(RERUN_DELAY_MAX_MS * attempt));
    }
  } finally {
    deadline.clear();
  }
}

/**
 * Milliseconds below a limit, from the microseconds of the clock: these differ between processes,
 * and between transactions that failed in the same turn.
 */
function jitterMs(limit: number): number {
  return Math.floor(monotonicMs() * MICROSECONDS_PER_MILLISECOND) % limit;
}

function mayRerun({ errorClass }: StatementError): boolean {
  return errorClass === 'retry' || errorClass === 'connectionLost' || errorClass === 'moved';
}

/** Sent a COMMIT without an answer, which the probe settles. */
type Unanswered<T> = { failure: StatementError; probe: Query<boolean>; result: T };

/** Ended; failed and rolled back; or unanswered. */
type Attempt<T> =
  | { failure: null; result: T; committed: boolean }
  | { failure: StatementError; probe: null }
  | Unanswered<T>;

async function attemptOnce<T>(
  pool: ConnectionPool,
  deadline: Deadline,
  riders: Rider[],
  work: (tx: Transaction) => Promise<T>,
): Promise<Attempt<T>> {
  const connection = await pool.acquire(deadline);
  const stopWatching = deadline.onEnd(() => connection.destroy());
  const tx = begin(connection, riders);
  try {
    const result = await work(tx);
    if (tx.hasEnded) return { failure: null, result, committed: false };
    if (tx.isReadOnly) {
      await connection.run('rollback', 'ROLLBACK', []);
      return { failure: null, result, committed: false };
    }
    for (const rider of riders) await rider.beforeCommit(tx);
    return await commit(pool, connection, tx, result);
  } catch (error) {
    if (error instanceof StatementError && error.isOfSession) connection.destroy();
    if (error instanceof StatementError && error.errorClass === 'moved') pool.onMoved(connection);
    await rollBack(connection);
    if (!(error instanceof StatementError) || error.errorClass === 'bug') throw error;
    pool.counts.countFailure(error);
    return { failure: error, probe: null };
  } finally {
    stopWatching();
    pool.release(connection);
  }
}

type OpenTransaction = Transaction & {
  probe: Query<boolean> | null;
  isReadOnly: boolean;
  hasWritten: boolean;
  hasEnded: boolean;
};

/** Sends nothing: with autocommit off, the first statement begins the transaction. */
function begin(connection: Connection, riders: Rider[]): OpenTransaction {
  const tx: OpenTransaction = {
    read: (...queries) => runAll(connection, queries),
    readAndEnd: async (...queries) => {
      const answers = await runAll(connection, [...queries, ROLLBACK]);
      tx.hasEnded = true;
      return answers.slice(0, -1) as Answers<typeof queries>;
    },
    writeNow: async (...writes) => {
      await runAll(connection, writes);
      tx.hasWritten = true;
    },
    writes: [],
    riders,
    readOnly: () => {
      tx.isReadOnly = !tx.hasWritten;
      tx.writes.length = 0;
    },
    commitProbe: (probe) => { tx.probe = probe; },
    probe: null,
    isReadOnly: false,
    hasWritten: false,
    hasEnded: false,
  };
  return tx;
}

async function runAll<Q extends readonly Query<unknown>[]>(
  connection: Connection,
  queries: Q,
): Promise<Answers<Q>> {
  if (queries.length === 1) {
    const { name, sql, values, read } = queries[0]!;
    return [read(await connection.run(name, sql, values))] as Answers<Q>;
  }
  const results = await connection.runAll(queries.map(({ name }) => name).join(' '), queries);
  return queries.map(({ read }, index) => read(results[index] ?? [])) as Answers<Q>;
}

/** A connection whose ROLLBACK fails is in an unknown state and must not be used again. */
async function rollBack(connection: Connection): Promise<void> {
  if (connection.isDestroyed()) return;
  try {
    await connection.run('rollback', 'ROLLBACK', []);
  } catch {
    connection.destroy();
  }
}

async function commit<T>(pool: ConnectionPool, connection: Connection, tx: OpenTransaction,
  result: T): Promise<Attempt<T>> {
  try {
    await runAll(connection, [...tx.writes, COMMIT]);
    return { failure: null, result, committed: true };
  } catch (error) {
    // After most errors of the server the transaction is rolled back.
    if (!(error instanceof StatementError) || !error.leavesDoubt) throw error;
    connection.destroy();
    if (error.errorClass === 'moved') pool.onMoved(connection);
    pool.counts.unanswered += 1;
    const { probe } = tx;
    if (probe === null) throw new Unavailable('a commit was not answered', { cause: error });
    return { failure: error, probe, result };
  }
}

/**
 * Tells whether a COMMIT without an answer took effect.
 *
 * @throws Unavailable when no answer comes in time: the outcome stays unknown, and the client may
 *   repeat the request with its key
 */
async function settle<T>(
  pool: ConnectionPool,
  { probe, result }: Unanswered<T>,
  answerByMs: number,
  onUnknown: Options<T>['onUnknown'],
): Promise<boolean> {
  const deadline = new Deadline(answerByMs - monotonicMs());
  try {
    for (let attempt = 1; ; attempt += 1) {
      const end = await attemptOnce(pool, deadline, [], async (later) =>
        (await later.readAndEnd(probe))[0]);
      if (end.failure === null) return pool.counts.countSettled(end.result);
      if (attempt === ATTEMPTS_MAX || deadline.isOver) {
        throw new Unavailable('a commit was not answered', { cause: end.failure });
      }
    }
  } catch (error) {
    onUnknown?.(result);
    throw error;
  } finally {
    deadline.clear();
  }
}
