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
type Walk = {
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
function createSweep(
  table: SweptTable,
  walk: Walk,
  rowsMax: number,
  events: SweepEvents,
): SweepStep {
  const first = table.key[0]!;
  const { after = null } = walk;
  const isAfter = after === null ? 'TRUE' : `${first} > ?`;
  let end: Value = after;
  let hasDead = false;
  let removed = 0;
  return {
    inspect: {
      name: `${table.name}.inspect`,
      sql: `SELECT MAX(first) AS end, COUNT(*) AS seen, MAX(seconds_dead) AS oldest
        FROM (SELECT ${first} AS first, IF(${isExpiredRow(table)},
          TIMESTAMPDIFF(SECOND, ${table.expiredSince}, NOW(6)), NULL) AS seconds_dead
          FROM ${table.name}
          WHERE ${isAfter} ORDER BY ${table.key.join(', ')} LIMIT ${rowsMax}) AS step`,
      values: after === null ? [] : [after],
      read: ([step]) => {
        end = step?.end as Value;
        const oldest = step?.oldest as number | null ?? null;
        hasDead = oldest !== null;
        walk.foundNothing = !hasDead;
        walk.isEmpty = step?.seen === 0 && after === null;
        const mayGoOn = hasDead || table.isInOrderOfTime === undefined;
        walk.after = mayGoOn && step?.seen === rowsMax ? end : null;
        walk.oldestSeconds = Math.max(walk.oldestSeconds, oldest ?? 0);
        if (walk.after !== null) return;
        // What it has begun in the middle goes on at the beginning, with the rows that are left.
        if (after !== null) walk.due += rowsMax - Number(step?.seen);
        events.onEnd(walk.oldestSeconds);
        walk.oldestSeconds = 0;
      },
    },
    removeExpired: async (tx) => {
      if (!hasDead) return;
      // One address may have more dead rows than one transaction should lock.
      const range = `${isAfter} AND ${first} <= ? AND ${isExpiredRow(table)}
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
  const keys = locked.flatMap((row) => valuesOf(row, table.key));
  tx.writes.push(write(`${table.name}.delete_dead`, deleteSql, keys));
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
    return (await tx.read(rowsBy(`${name}.lock_dead`, sql, values)))[0];
  }
  // Whoever locks a row has locked its entry in that index first: the other way is a deadlock.
  const { columns, index } = lockedBy;
  const sql = find([...columns, ...key]);
  const [found] = await tx.read(rowsBy(`${name}.find_dead`, sql, values));
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
  return [rowsBy(`${name}.lock_dead`, sql, rows.flatMap((row) => valuesOf(row, columns)))];
}

function rowsBy(name: string, sql: string, values: readonly Value[]): Query<readonly Row[]> {
  return { name, sql, values, read: (rows) => rows };
}

function valuesOf(row: Row, columns: readonly string[]): Value[] {
  return columns.map((column) => row[column] as Value);
}

/**
 * How fast a table is walked: so that there are never more dead rows than live ones, also when two
 * processes walk in step. Slower where the last step met none dead is not enough: live rows lie
 * beside each other, and meanwhile as many die elsewhere (tried: the bound was passed).
 */
const ROWS_PER_CODE = 4;

/** Where hardly any can be dead: all processes together pass by each row once in two lives. */
const ROWS_PER_CODE_SLOWLY = 0.5;

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
  keysVary: () => boolean;
}>;

/** Walks the tables, a step for every two hundred codes or so. One per process. */
export class Sweeper {
  readonly counts: SweepCounts;
  readonly #tables: readonly SweptTable[];
  readonly #walks: readonly Walk[];
  readonly #keysVary: () => boolean;

  constructor({ retention, randomBelow, keysVary }: SweeperDeps) {
    this.#tables = sweptTables(retention);
    this.counts = new SweepCounts(this.#tables.map(({ name }) => name));
    this.#keysVary = keysVary;
    // What comes first differs from process to process: many short lives sweep all tables too.
    this.#walks = this.#tables.map(() => ({
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
  next(codes: number, near: WrittenRows): SweepStep | null {
    let turn = -1;
    let mostDue = 1;
    for (const [index, walk] of this.#walks.entries()) {
      walk.due += codes * this.#paceOf(this.#tables[index]!);
      const isDue = walk.due / (walk.isEmpty ? EMPTY_STEP_ROWS : STEP_ROWS);
      if (isDue < mostDue) continue;
      turn = index;
      mostDue = isDue;
    }
    return turn === -1 ? null : this.#step(turn, near);
  }

  #paceOf({ isWhereKeysVary }: SweptTable): number {
    const isSlow = isWhereKeysVary === true && !this.#keysVary();
    return isSlow ? ROWS_PER_CODE_SLOWLY : ROWS_PER_CODE;
  }

  #step(turn: number, near: WrittenRows): SweepStep {
    const table = this.#tables[turn]!;
    const walk = this.#walks[turn]!;
    if (walk.after === undefined) walk.after = table.firstOf(near);
    const isLook = table.isInOrderOfTime === true && walk.foundNothing;
    const rows = isLook ? HEAD_ROWS : Math.ceil(walk.due);
    walk.due = 0;
    return createSweep(table, walk, rows, {
      onEnd: (oldestSeconds) => this.counts.recordPass(turn, oldestSeconds),
      onRemoved: (count) => this.counts.countRemoved(turn, count),
    });
  }
}
