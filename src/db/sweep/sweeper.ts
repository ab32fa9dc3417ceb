/** One step of a sweep: a look at some rows of a table, and the deletion of the dead among them. */
import type { Value } from '../bind.ts';
import type { Row } from '../connection.ts';
import { isExpiredRow, sweptTables } from './expired-rows.ts';
import type { Retention, SweptTable, WrittenRows } from './expired-rows.ts';
import { SweepCounts } from '../metrics.ts';
import { joinKeys, write } from '../query.ts';
import type { Query } from '../query.ts';
import type { Transaction } from '../transaction.ts';

/** One step of the walk, in one transaction. */
export type SweepStep = Readonly<{
  /** Looks at rows and locks nothing. To be asked before `removeDead`. */
  inspect: Query<void>;
  /**
   * Leaves the deletion of the dead that were found to the transaction. To be called once all
   * locks are held: it locks only rows that nobody holds and waits for none, so it cannot
   * deadlock.
   */
  removeExpired: (tx: Transaction) => Promise<void>;
  /** Counts what was removed. To be called once the transaction is committed. */
  onCommitted: () => void;
}>;

/** How far a table has been walked. */
type Pass = {
  /** Where it is; null: at the beginning; undefined: it has not begun. */
  after: Value | undefined;
  /** Rows that are to be looked at. */
  due: number;
  /** How long the oldest dead on its way had been dead. */
  oldestSeconds: number;
  /** Whether the last step met none that is dead, and whether it met any row. */
  foundNothing: boolean;
  isEmpty: boolean;
};

type SweepEvents = Readonly<{
  onEnd: (oldestSeconds: number) => void;
  onRemoved: (count: number) => void;
}>;

/**
 * Makes a step.
 *
 * @param walk where the table has been walked to; moved on by the rows that are looked at
 * @param rowsMax how many rows to look at
 * @param events what is told: the end of a walk, with the seconds for which the oldest dead on its
 *   way had been dead, and how many rows a committed step has removed
 */
function createStep(
  table: SweptTable,
  pass: Pass,
  rowsMax: number,
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
      sql: `SELECT MAX(first) AS end, COUNT(*) AS seen, MAX(seconds_expired) AS oldest
        FROM (SELECT ${first} AS first, IF(${isExpiredRow(table)},
          TIMESTAMPDIFF(SECOND, ${table.expiredSince}, NOW(6)), NULL) AS seconds_expired
          FROM ${table.name}
          WHERE ${afterSql} ORDER BY ${table.key.join(', ')} LIMIT ${rowsMax}) AS step`,
      values: after === null ? [] : [after],
      read: ([step]) => {
        end = step?.end as Value;
        const oldest = step?.oldest as number | null ?? null;
        hasExpired = oldest !== null;
        pass.foundNothing = !hasExpired;
        pass.isEmpty = step?.seen === 0 && after === null;
        const continues = hasExpired || table.isInExpiryOrder === undefined;
        pass.after = continues && step?.seen === rowsMax ? end : null;
        pass.oldestSeconds = Math.max(pass.oldestSeconds, oldest ?? 0);
        if (pass.after !== null) return;
        // What it has begun in the middle goes on at the beginning, with the rows that are left.
        if (after !== null) pass.due += rowsMax - Number(step?.seen);
        events.onEnd(pass.oldestSeconds);
        pass.oldestSeconds = 0;
      },
    },
    removeExpired: async (tx) => {
      if (!hasExpired) return;
      // One address may have more dead rows than one transaction should lock.
      const range = `${afterSql} AND ${first} <= ? AND ${isExpiredRow(table)}
        ORDER BY ${table.key.join(', ')} LIMIT ${rowsMax}`;
      removed = await deleteExpired(tx, table, range, after === null ? [end] : [after, end]);
    },
    onCommitted: () => events.onRemoved(removed),
  };
}

/**
 * Locks the dead of a range that nobody holds, and leaves their deletion to the transaction.
 *
 * @returns how many they are
 */
async function deleteExpired(
  tx: Transaction,
  table: SweptTable,
  range: string,
  values: readonly Value[],
): Promise<number> {
  const locked = await lockExpired(tx, table, range, values);
  if (locked.length === 0) return 0;
  // Dead still: the transaction may be about to use one of them again.
  const rows = joinKeys(table.name, table.key, locked.length);
  const deleteSql = `DELETE t FROM ${rows} WHERE ${isExpiredRow(table)}`;
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
  const find = (columns: readonly string[]): string =>
    `SELECT ${columns.join(', ')} FROM ${name} FORCE INDEX (PRIMARY) WHERE ${range}`;
  if (lockedBy === undefined) {
    const sql = `${find(key)} FOR UPDATE SKIP LOCKED`;
    return (await tx.read(selectQuery(`${name}.sweep_lock`, sql, values)))[0];
  }
  // Whoever locks a row has locked its entry in that index first: the other way is a deadlock.
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

/** Locks those of rows that nobody holds, found by an index; of no rows there is nothing to ask. */
function lockRows(
  { name, key }: SweptTable,
  columns: readonly string[],
  index: string,
  rows: readonly Row[],
): Query<readonly Row[]>[] {
  if (rows.length === 0) return [];
  const sql = `SELECT ${key.map((column) => `t.${column}`).join(', ')}
    FROM ${joinKeys(name, columns, rows.length, { index })} FOR UPDATE OF t SKIP LOCKED`;
  return [selectQuery(`${name}.sweep_lock`, sql, rows.flatMap((row) => pickValues(row, columns)))];
}

function selectQuery(name: string, sql: string, values: readonly Value[]): Query<readonly Row[]> {
  return { name, sql, values, read: (rows) => rows };
}

function pickValues(row: Row, columns: readonly string[]): Value[] {
  return columns.map((column) => row[column] as Value);
}

/**
 * How fast a table is walked: so that there are never more dead rows than live ones, also when two
 * processes walk in step. Slower where the last step met none dead is not enough: live rows lie
 * beside each other, and meanwhile as many die elsewhere (tried: the bound was passed).
 */
const ROWS_PER_OTP = 4;

/** Where hardly any can be dead: all processes together pass by each row once in two lives. */
const SLOW_ROWS_PER_OTP = 0.5;

/** A step is due when so many rows are: looking at any at all costs as much as at eight hundred. */
const STEP_ROWS = 1024;

/** An empty table is looked at less often. */
const EMPTY_STEP_ROWS = 4096;

/** Where the dead are at the beginning, and the last step met none, a look at it is enough. */
const HEAD_ROWS = 16;

type SweeperDeps = Readonly<{
  retention: Retention;
  /** A random integer from 0 to below a limit. */
  randomBelow: (limit: number) => number;
  /** Whether purposes keep idempotency keys for different times now. */
  keyRetentionVaries: () => boolean;
}>;

/** Walks the tables, a step for every two hundred codes or so. One per process. */
export class Sweeper {
  readonly counts: SweepCounts;
  readonly #tables: readonly SweptTable[];
  readonly #passes: readonly Pass[];
  readonly #keyRetentionVaries: () => boolean;

  constructor({ retention, randomBelow, keyRetentionVaries }: SweeperDeps) {
    this.#tables = sweptTables(retention);
    this.counts = new SweepCounts(this.#tables.map(({ name }) => name));
    this.#keyRetentionVaries = keyRetentionVaries;
    // What comes first differs from process to process: many short lives sweep all tables too.
    this.#passes = this.#tables.map(() => ({
      after: undefined, due: randomBelow(STEP_ROWS), oldestSeconds: 0, foundNothing: false,
      isEmpty: false,
    }));
  }

  /**
   * The next step, on the table that it is most due on; null when it is due on none.
   *
   * @param codes how many codes the transaction may issue
   * @param near rows that it may write: where a process begins to walk, so that several do not
   *   walk in step
   */
  next(otpCount: number, near: WrittenRows): SweepStep | null {
    let chosen = -1;
    let highest = 1;
    for (const [index, pass] of this.#passes.entries()) {
      pass.due += otpCount * this.#rowsPerOtp(this.#tables[index]!);
      const share = pass.due / (pass.isEmpty ? EMPTY_STEP_ROWS : STEP_ROWS);
      if (share < highest) continue;
      chosen = index;
      highest = share;
    }
    return chosen === -1 ? null : this.#step(chosen, near);
  }

  #rowsPerOtp({ isSlowUnlessKeyRetentionVaries }: SweptTable): number {
    const isSlow = isSlowUnlessKeyRetentionVaries === true && !this.#keyRetentionVaries();
    return isSlow ? SLOW_ROWS_PER_OTP : ROWS_PER_OTP;
  }

  #step(chosen: number, near: WrittenRows): SweepStep {
    const table = this.#tables[chosen]!;
    const pass = this.#passes[chosen]!;
    if (pass.after === undefined) pass.after = table.startAt(near);
    const isHeadOnly = table.isInExpiryOrder === true && pass.foundNothing;
    const rows = isHeadOnly ? HEAD_ROWS : Math.ceil(pass.due);
    pass.due = 0;
    return createStep(table, pass, rows, {
      onEnd: (oldestSeconds) => this.counts.recordPass(chosen, oldestSeconds),
      onRemoved: (count) => this.counts.countRemoved(chosen, count),
    });
  }
}
