/**
 * Removes expired rows a few at a time, inside the transactions that issue OTPs. Nothing needs a
 * timer, or an index by time that every request would maintain. A pass reads a table in the order
 * of its primary key.
 */
import { isExpiredRow, sweptTables } from './expired-rows.ts';
import type { KeptCounts, Retention, SweptTable, WrittenRows } from './expired-rows.ts';
import { SweepCounts } from '../metrics.ts';
import { deleteFrom, repeat, write } from '../query.ts';
import type { Query, Row, Value } from '../query.ts';
import type { Rider, Transaction } from '../transaction.ts';

/**
 * One step of a pass, which rides on the transaction of a batch of requests. Before the COMMIT the
 * step locks only rows that no transaction holds and never waits, so it cannot deadlock.
 */
export type SweepStep = Rider & Readonly<{
  /** Reads rows without locking. Runs before the COMMIT. */
  inspect: Query<void>;
}>;

type Pass = {
  /** The last key read; null: at the beginning; undefined: not started. */
  after: Value | undefined;
  /** How many rows to read in the next step. */
  due: number;
  /** How long ago the oldest expired row of the pass had expired. */
  oldestSeconds: number;
  /** The last step found no expired row. */
  foundNothing: boolean;
  /** How many steps in a row have found the table empty. */
  emptySteps: number;
};

type SweepEvents = Readonly<{
  onEnd: (oldestSeconds: number) => void;
  onRemoved: (count: number) => void;
}>;

/**
 * Creates a step, and advances the pass by the rows that the step reads.
 *
 * @param unread rows that were due in addition, and stay due if every row of the step is expired
 * @param events the end of a pass, and the rows that a committed step has removed
 */
function createStep(
  table: SweptTable,
  pass: Pass,
  rowsMax: number,
  unread: number,
  events: SweepEvents,
): SweepStep {
  const first = table.key[0]!;
  const { after = null } = pass;
  const afterSql = after === null ? 'TRUE' : `${first} > ?`;
  let end: Value = after;
  let hasExpired = false;
  let removed = 0;
  return {
    inspect: {
      name: `${table.name}.inspect`,
      sql: `SELECT MAX(first) AS end, COUNT(*) AS seen, COUNT(seconds_expired) AS expired,
        MAX(seconds_expired) AS oldest
        FROM (SELECT ${first} AS first, IF(${isExpiredRow(table)},
          TIMESTAMPDIFF(SECOND, ${table.expiredSince}, NOW(6)), NULL) AS seconds_expired
          FROM ${table.name}
          WHERE ${afterSql} ORDER BY ${table.key.join(', ')} LIMIT ${rowsMax}) AS step`,
      values: after === null ? [] : [after],
      read: ([step]) => {
        end = step?.end as Value;
        const seen = Number(step?.seen);
        hasExpired = Number(step?.expired) > 0;
        pass.foundNothing = !hasExpired;
        pass.emptySteps = seen === 0 && after === null ? pass.emptySteps + 1 : 0;
        const continues = hasExpired || table.isInExpiryOrder === undefined;
        pass.after = continues && seen === rowsMax ? end : null;
        pass.oldestSeconds = Math.max(pass.oldestSeconds, Number(step?.oldest));
        if (step?.expired === rowsMax) pass.due += unread;
        if (pass.after !== null) return;
        // The first pass began within the table: the rows missing from this step stay due.
        if (after !== null) pass.due += rowsMax - seen;
        events.onEnd(pass.oldestSeconds);
        pass.oldestSeconds = 0;
      },
    },
    beforeCommit: async (tx) => {
      if (!hasExpired) return;
      // One subject may have more expired rows than one transaction should lock.
      const range = `${afterSql} AND ${first} <= ? AND ${isExpiredRow(table)}
        ORDER BY ${table.key.join(', ')} LIMIT ${rowsMax}`;
      removed = await deleteExpired(tx, table, range, after === null ? [end] : [after, end]);
    },
    afterCommit: (committed) => {
      if (committed) events.onRemoved(removed);
    },
  };
}

/**
 * Locks the expired rows of a range that no transaction holds, and adds their deletion to the
 * transaction.
 *
 * @returns the number of rows
 */
async function deleteExpired(
  tx: Transaction,
  table: SweptTable,
  range: string,
  values: readonly Value[],
): Promise<number> {
  const locked = await lockExpired(tx, table, range, values);
  if (locked.length === 0) return 0;
  const isExpired = isExpiredRow(table);
  const kept = table.keep?.copy(locked, isExpired) ?? null;
  if (kept !== null) tx.writes.push(kept);
  // Checks the expiry again: the transaction may be about to use one of the rows.
  const deleteSql = `${deleteFrom(table.name)}${hasKey(table.key, locked.length)}
    AND ${isExpired}`;
  const keys = locked.flatMap((row) => pickValues(row, table.key));
  tx.writes.push(write(`${table.name}.sweep_delete`, deleteSql, keys));
  return locked.length;
}

async function lockExpired(
  tx: Transaction,
  table: SweptTable,
  range: string,
  values: readonly Value[],
): Promise<readonly Row[]> {
  const { name, key, lockedBy } = table;
  // A server that ignores SKIP LOCKED waits here; the DELETE decides what is removed.
  const find = (columns: readonly string[]): string =>
    `SELECT ${columns.join(', ')} FROM ${name} FORCE INDEX (PRIMARY) WHERE ${range}`;
  if (lockedBy === undefined) {
    const sql = `${find(key)} FOR UPDATE SKIP LOCKED`;
    return (await tx.read(selectQuery(`${name}.sweep_lock`, sql, values)))[0];
  }
  // Every transaction locks the entry in this index before the row. The opposite order would
  // deadlock.
  const { columns, index } = lockedBy;
  const sql = find([...columns, ...key]);
  const [found] = await tx.read(selectQuery(`${name}.sweep_find`, sql, values));
  const isInIndex = (row: Row): boolean => row[columns[0]!] !== null;
  const queries = [
    ...lockRows(table, columns, index, found.filter(isInIndex)),
    ...lockRows(table, key, 'PRIMARY', found.filter((row) => !isInIndex(row))),
  ];
  return queries.length === 0 ? [] : (await tx.read(...queries)).flat();
}

function lockRows(
  { name, key, keep }: SweptTable,
  columns: readonly string[],
  index: string,
  rows: readonly Row[],
): Query<readonly Row[]>[] {
  if (rows.length === 0) return [];
  const sql = `SELECT ${[...key, ...(keep?.columns ?? [])].join(', ')}
    FROM ${name} FORCE INDEX (${index}) WHERE ${hasKey(columns, rows.length)}
    FOR UPDATE SKIP LOCKED`;
  return [selectQuery(`${name}.sweep_lock`, sql, rows.flatMap((row) => pickValues(row, columns)))];
}

/** SQL: whether a row has one of the keys. */
function hasKey(columns: readonly string[], rows: number): string {
  return `(${columns.join(', ')}) IN (${repeat(rows, `(${repeat(columns.length, '?')})`)})`;
}

function selectQuery(name: string, sql: string, values: readonly Value[]): Query<readonly Row[]> {
  return { name, sql, values, read: (rows) => rows };
}

function pickValues(row: Row, columns: readonly string[]): Value[] {
  return columns.map((column) => row[column] as Value);
}

/**
 * Rows read per issued OTP. Four keep expired rows fewer than live rows, even when two processes
 * read the same rows. Slowing down after a step without expired rows exceeded that bound in a
 * trial: live rows are adjacent, and as many rows expire elsewhere meanwhile.
 */
const ROWS_PER_OTP = 4;

/** Where few rows expire: all processes together read each row once in two retention times. */
const SLOW_ROWS_PER_OTP = 0.5;

/** A step waits until this many rows are due: its fixed cost equals that of reading 800 rows. */
const STEP_ROWS = 1024;

/** The same for a table that stays empty, which needs fewer steps. */
const EMPTY_STEP_ROWS = 4096;

/** A table is empty for a moment when another process has swept it: one step is no proof. */
const EMPTY_STEPS = 2;

/** Enough to look for the first expired row of a table in expiry order. */
const HEAD_ROWS = 16;

type SweeperDeps = Readonly<{
  retention: Retention;
  counts: KeptCounts;
  /** Returns a random integer from 0 to `limit - 1`. */
  randomBelow: (limit: number) => number;
}>;

/** Plans the steps of one process: about one step for every two hundred OTPs. */
export class Sweeper {
  readonly counts: SweepCounts;
  readonly #tables: readonly SweptTable[];
  readonly #passes: readonly Pass[];

  constructor({ retention, counts, randomBelow }: SweeperDeps) {
    this.#tables = sweptTables(retention, counts);
    this.counts = new SweepCounts(this.#tables.map(({ name }) => name));
    // The first table is random, so that processes that exit early sweep every table between them.
    this.#passes = this.#tables.map(() => ({
      after: undefined, due: randomBelow(STEP_ROWS), oldestSeconds: 0, foundNothing: false,
      emptySteps: 0,
    }));
  }

  /**
   * Returns the step that is most due, or null when none is due.
   *
   * @param otpCount how many OTPs the transaction may issue
   * @param near keys that the transaction may write. The first pass starts there, so that several
   *   processes do not read the same rows
   */
  next(otpCount: number, near: WrittenRows): SweepStep | null {
    let chosen = -1;
    let highest = 1;
    for (const [index, pass] of this.#passes.entries()) {
      pass.due += otpCount * (this.#tables[index]!.isSlow ? SLOW_ROWS_PER_OTP : ROWS_PER_OTP);
      const share = pass.due / (pass.emptySteps < EMPTY_STEPS ? STEP_ROWS : EMPTY_STEP_ROWS);
      if (share < highest) continue;
      chosen = index;
      highest = share;
    }
    return chosen === -1 ? null : this.#step(chosen, near);
  }

  #step(chosen: number, near: WrittenRows): SweepStep {
    const table = this.#tables[chosen]!;
    const pass = this.#passes[chosen]!;
    if (pass.after === undefined) pass.after = table.startAt(near);
    const isHeadOnly = table.isInExpiryOrder === true && pass.foundNothing;
    const rows = isHeadOnly ? HEAD_ROWS : Math.ceil(pass.due);
    const unread = Math.max(0, pass.due - rows);
    pass.due = 0;
    return createStep(table, pass, rows, unread, {
      onEnd: (oldestSeconds) => this.counts.recordPass(chosen, oldestSeconds),
      onRemoved: (count) => this.counts.countRemoved(chosen, count),
    });
  }
}
