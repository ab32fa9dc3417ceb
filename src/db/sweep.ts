/**
 * Removes dead rows a few at a time, inside the transactions that issue codes: no timer, no cron,
 * and no index on time that every request would have to maintain. A cursor walks each table in
 * the order of its primary key.
 */
import { randomBytes } from 'node:crypto';
import type { Value } from './bind.ts';
import { joinKeys } from './keyed-rows.ts';
import { write } from './query.ts';
import type { Query } from './query.ts';
import type { Row } from './session.ts';
import { SweepCounts } from './sweep-metrics.ts';
import { isDead, SWEPT_TABLES } from './swept-tables.ts';
import type { SweptTable, WrittenRows } from './swept-tables.ts';
import type { Transaction } from './transaction.ts';

/** A sweep looks at one table; each table's turn comes once in this many codes asked for. */
const CODES_PER_SWEEP = 8;

/**
 * How fast a table is walked: so that there are never more dead rows than live ones, also when two
 * processes walk in step. Slower where the last step met none dead is not enough: live rows lie
 * beside each other, and meanwhile as many die elsewhere (tried: the bound was passed).
 */
const ROWS_PER_CODE = 4;

/** Where the dead are at the beginning, and the last step met none, a look at it is enough. */
const HEAD_ROWS = 16;

/** One step of the walk, in one transaction. */
export type Sweep = Readonly<{
  /** Looks at rows and locks nothing. To be asked before `removeDead`. */
  inspect: Query<void>;
  /**
   * Leaves the deletion of the dead that were found to the transaction. To be called once all
   * locks are held: it locks only rows that nobody holds and waits for none, so it cannot
   * deadlock.
   */
  removeDead: (tx: Transaction) => Promise<void>;
  /** Counts what was removed. To be called once the transaction is committed. */
  noteCommitted: () => void;
}>;

/**
 * Where the walk of a table is, how long the oldest dead on its way had been dead, and whether the
 * last step met none.
 */
type Walk = { after: Value; oldestSeconds: number; isAtEase: boolean };

/** Walks the tables, one step after every few requests for codes. One per process. */
export class Sweeper {
  readonly counts = new SweepCounts(SWEPT_TABLES.map(({ name }) => name));
  readonly #walks: (Walk | undefined)[] = SWEPT_TABLES.map(() => undefined);
  #turn = 0;
  #codesSinceSweep = 0;

  /** Starts at a table that differs from process to process: many short lives sweep all too. */
  constructor() {
    this.#turn = randomBytes(1)[0]! % SWEPT_TABLES.length;
  }

  /**
   * The next step, when enough codes were asked for since the last one; else null.
   *
   * @param codes how many codes the transaction may issue
   * @param near rows that it may write: where a process begins to walk, so that several do not
   *   walk in step
   */
  next(codes: number, near: WrittenRows): Sweep | null {
    this.#codesSinceSweep += codes;
    if (this.#codesSinceSweep < CODES_PER_SWEEP) return null;
    const turn = this.#turn;
    this.#turn = (turn + 1) % SWEPT_TABLES.length;
    const table = SWEPT_TABLES[turn]!;
    const walk = this.#walks[turn]
      ??= { after: table.firstOf(near), oldestSeconds: 0, isAtEase: false };
    const rows = rowsOfStep(table, walk, this.#codesSinceSweep * SWEPT_TABLES.length);
    this.#codesSinceSweep = 0;
    return createSweep(table, walk, rows, {
      onEnd: (oldestSeconds) => this.counts.noteEnd(turn, oldestSeconds),
      onRemoved: (count) => this.counts.noteRemoved(turn, count),
    });
  }
}

/** @param codes how many codes were asked for since the last step on this table */
function rowsOfStep({ isInOrderOfTime }: SweptTable, { isAtEase }: Walk, codes: number): number {
  return isInOrderOfTime === true && isAtEase ? HEAD_ROWS : codes * ROWS_PER_CODE;
}

type SweepEvents = Readonly<{
  onEnd: (oldestSeconds: number) => void;
  onRemoved: (count: number) => void;
}>;

/** Counts the dead among so many rows, and moves on by them; null stands for the beginning. */
function createSweep(table: SweptTable, walk: Walk, rowsMax: number, events: SweepEvents): Sweep {
  const first = table.key[0]!;
  const { after } = walk;
  const isAfter = after === null ? 'TRUE' : `${first} > ?`;
  let end: Value = after;
  let hasDead = false;
  let removed = 0;
  return {
    inspect: {
      name: `${table.name}.inspect`,
      sql: `SELECT MAX(first) AS end, COUNT(*) AS seen, MAX(seconds_dead) AS oldest
        FROM (SELECT ${first} AS first, IF(${isDead(table)},
          TIMESTAMPDIFF(SECOND, ${table.deadSince}, NOW(6)), NULL) AS seconds_dead
          FROM ${table.name}
          WHERE ${isAfter} ORDER BY ${table.key.join(', ')} LIMIT ${rowsMax}) AS step`,
      values: after === null ? [] : [after],
      read: ([step]) => {
        end = step?.end as Value;
        const oldest = step?.oldest as number | null ?? null;
        hasDead = oldest !== null;
        walk.isAtEase = !hasDead;
        const mayGoOn = hasDead || table.isInOrderOfTime === undefined;
        walk.after = mayGoOn && step?.seen === rowsMax ? end : null;
        walk.oldestSeconds = Math.max(walk.oldestSeconds, oldest ?? 0);
        if (walk.after !== null) return;
        events.onEnd(walk.oldestSeconds);
        walk.oldestSeconds = 0;
      },
    },
    removeDead: async (tx) => {
      if (!hasDead) return;
      // One address may have more dead rows than one transaction should lock.
      const range = `${isAfter} AND ${first} <= ? AND ${isDead(table)}
        ORDER BY ${table.key.join(', ')} LIMIT ${rowsMax}`;
      removed = await deleteDead(tx, table, range, after === null ? [end] : [after, end]);
    },
    noteCommitted: () => events.onRemoved(removed),
  };
}

/**
 * Locks the dead of a range that nobody holds, and leaves their deletion to the transaction.
 *
 * @returns how many they are
 */
async function deleteDead(
  tx: Transaction,
  table: SweptTable,
  range: string,
  values: readonly Value[],
): Promise<number> {
  const locked = await lockDead(tx, table, range, values);
  if (locked.length === 0) return 0;
  // Dead still: the transaction may be about to use one of them again.
  const rows = joinKeys(table.name, table.key, locked.length);
  const deleteSql = `DELETE t FROM ${rows} WHERE ${isDead(table)}`;
  const keys = locked.flatMap((row) => valuesOf(row, table.key));
  tx.writes.push(write(`${table.name}.delete_dead`, deleteSql, keys));
  return locked.length;
}

async function lockDead(
  tx: Transaction,
  { name, key, lockedBy }: SweptTable,
  range: string,
  values: readonly Value[],
): Promise<readonly Row[]> {
  const find = (columns: readonly string[]): string =>
    `SELECT ${columns.join(', ')} FROM ${name} FORCE INDEX (PRIMARY) WHERE ${range}`;
  const skip = 'FOR UPDATE SKIP LOCKED';
  if (lockedBy === undefined) {
    return (await tx.ask(rowsBy(`${name}.lock_dead`, `${find(key)} ${skip}`, values)))[0];
  }
  // Whoever locks a row has locked its entry in that index first: the other way is a deadlock.
  const { columns, index } = lockedBy;
  const [found] = await tx.ask(rowsBy(`${name}.find_dead`, find(columns), values));
  if (found.length === 0) return [];
  const keys = found.flatMap((row) => valuesOf(row, columns));
  const lockSql = `SELECT ${key.map((column) => `t.${column}`).join(', ')}
    FROM ${joinKeys(name, columns, found.length, { index })} FOR UPDATE OF t SKIP LOCKED`;
  return (await tx.ask(rowsBy(`${name}.lock_dead`, lockSql, keys)))[0];
}

function rowsBy(name: string, sql: string, values: readonly Value[]): Query<readonly Row[]> {
  return { name, sql, values, read: (rows) => rows };
}

function valuesOf(row: Row, columns: readonly string[]): Value[] {
  return columns.map((column) => row[column] as Value);
}
