/**
 * The transaction helper: commits on return, rolls back on throw, reruns what lost a race, and
 * finds out what became of a COMMIT that was never answered.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { monotonicMs } from './clock.ts';
import type { Connection } from './connection.ts';
import { Deadline } from './deadline.ts';
import { asUnavailable, StatementError, Unavailable } from './errors.ts';
import { MICROSECONDS_PER_MILLISECOND } from './instant.ts';
import type { ConnectionPool } from './pool.ts';
import { write } from './query.ts';
import type { Query, Write } from './query.ts';

/** A transaction under way. */
export type Transaction = {
  /** Runs statements in one round trip, in order; throws StatementError. */
  readonly read: <Q extends readonly Query<unknown>[]>(...queries: Q) => Promise<Answers<Q>>;
  /** The same for work that is only an answer: ends the transaction in the same round trip. */
  readonly readAndEnd: <Q extends readonly Query<unknown>[]>(...queries: Q) => Promise<Answers<Q>>;
  /** Statements that are sent with the COMMIT, in one round trip, in order. */
  readonly writes: Write[];
  /**
   * Asks, in a later transaction, whether this one was committed. Must wait for the locks of this
   * one (a locking read), because the server may still be at it. Null: unknown outcomes end as
   * Unavailable.
   */
  wasCommitted: Query<boolean> | null;
  /** Set when the work is only an answer: ends in ROLLBACK, which costs no flush to disk. */
  hasNothingToKeep: boolean;
};

/** What statements give, each its own. */
type Answers<Q extends readonly Query<unknown>[]> = {
  -readonly [K in keyof Q]: Q[K] extends Query<infer T> ? T : never;
};

/** Leaves time for the answer, and for settling, within the 3 s of a 503. */
const WORK_DEADLINE_MS = 2200;
const SETTLE_DEADLINE_MS = 600;

/** Each rerun lost a race that somebody else won, so a few are enough. */
const ATTEMPTS_MAX = 8;
const RERUN_DELAY_MAX_MS = 8;

const COMMIT = write('commit', 'COMMIT', []);
const ROLLBACK = write('rollback', 'ROLLBACK', []);

/**
 * Runs work in one READ COMMITTED transaction.
 *
 * The work may run several times, and must have no effect but through its transaction. It locks
 * and reads by `ask`, leaves what is to be written in `writes`, and returns the result, which is
 * passed on once the COMMIT is durable.
 *
 * @returns what the work returned
 * @throws Unavailable when the database cannot answer within the bound; otherwise whatever the
 *   work threw, after ROLLBACK
 */
export async function transaction<T>(
  pool: ConnectionPool,
  work: (tx: Transaction) => Promise<T>,
): Promise<T> {
  const deadline = new Deadline(WORK_DEADLINE_MS);
  try {
    for (let attempt = 1; ; attempt += 1) {
      const ending = await attemptOnce(pool, deadline, work);
      if (ending.failure === null) return ending.result;
      if (ending.wasCommitted !== null && (await settle(pool, ending.wasCommitted))) {
        return ending.result;
      }
      if (attempt === ATTEMPTS_MAX || deadline.isOver || !mayRerun(ending.failure)) {
        throw asUnavailable(ending.failure);
      }
      pool.counts.retries += 1;
      await delay(jitterMs(RERUN_DELAY_MAX_MS * attempt));
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

function mayRerun(failure: StatementError): boolean {
  return failure.errorClass === 'retry' || failure.errorClass === 'connectionLost';
}

/** Committed; or not committed; or asked to commit and not answered, with the way to find out. */
type Ending<T> =
  | { failure: null; result: T }
  | { failure: StatementError; wasCommitted: null }
  | { failure: StatementError; wasCommitted: Query<boolean>; result: T };

async function attemptOnce<T>(
  pool: ConnectionPool,
  deadline: Deadline,
  work: (tx: Transaction) => Promise<T>,
): Promise<Ending<T>> {
  const session = await pool.acquire(deadline);
  const stopWatching = deadline.onEnd(() => session.destroy());
  const tx = begin(session);
  try {
    const result = await work(tx);
    if (tx.hasEnded) return { failure: null, result };
    if (!tx.hasNothingToKeep) return await commit(pool, session, tx, result);
    await session.run('rollback', 'ROLLBACK', []);
    return { failure: null, result };
  } catch (error) {
    await rollBack(session);
    if (!(error instanceof StatementError) || error.errorClass === 'bug') throw error;
    pool.counts.countFailure(error);
    return { failure: error, wasCommitted: null };
  } finally {
    stopWatching();
    pool.release(session);
  }
}

type OpenTransaction = Transaction & { hasEnded: boolean };

/** With autocommit off, the first statement begins the transaction. */
function begin(session: Connection): OpenTransaction {
  const tx: OpenTransaction = {
    read: (...queries) => askAll(session, queries),
    readAndEnd: async (...queries) => {
      const answers = await askAll(session, [...queries, ROLLBACK]);
      tx.hasEnded = true;
      return answers.slice(0, -1) as Answers<typeof queries>;
    },
    writes: [],
    wasCommitted: null,
    hasNothingToKeep: false,
    hasEnded: false,
  };
  return tx;
}

async function askAll<Q extends readonly Query<unknown>[]>(
  session: Connection,
  queries: Q,
): Promise<Answers<Q>> {
  if (queries.length === 1) {
    const { name, sql, values, read } = queries[0]!;
    return [read(await session.run(name, sql, values))] as Answers<Q>;
  }
  const results = await session.runAll(queries.map(({ name }) => name).join(' '), queries);
  return queries.map(({ read }, index) => read(results[index] ?? [])) as Answers<Q>;
}

/** A session whose ROLLBACK fails is in an unknown state and must not be lent again. */
async function rollBack(session: Connection): Promise<void> {
  if (session.isDestroyed()) return;
  try {
    await session.run('rollback', 'ROLLBACK', []);
  } catch {
    session.destroy();
  }
}

async function commit<T>(pool: ConnectionPool, session: Connection, tx: Transaction,
  result: T): Promise<Ending<T>> {
  try {
    await askAll(session, [...tx.writes, COMMIT]);
    return { failure: null, result };
  } catch (error) {
    // An error that the server itself reports has rolled back; only silence leaves a doubt.
    if (!(error instanceof StatementError) || error.errorClass !== 'connectionLost') throw error;
    session.destroy();
    pool.counts.unanswered += 1;
    const { wasCommitted } = tx;
    if (wasCommitted === null) throw new Unavailable('a commit was not answered', { cause: error });
    return { failure: error, wasCommitted, result };
  }
}

/**
 * Asks a later transaction whether a COMMIT without an answer took effect.
 *
 * @throws Unavailable when that cannot be found out in time: the outcome stays unknown, and the
 *   client may repeat the request with its key
 */
async function settle(pool: ConnectionPool, wasCommitted: Query<boolean>): Promise<boolean> {
  const deadline = new Deadline(SETTLE_DEADLINE_MS);
  try {
    for (let attempt = 1; ; attempt += 1) {
      const ending = await attemptOnce(pool, deadline, async (later) =>
        (await later.readAndEnd(wasCommitted))[0]);
      if (ending.failure === null) return pool.counts.countSettled(ending.result);
      if (attempt === ATTEMPTS_MAX || deadline.isOver) {
        throw new Unavailable('a commit was not answered', { cause: ending.failure });
      }
    }
  } finally {
    deadline.clear();
  }
}
