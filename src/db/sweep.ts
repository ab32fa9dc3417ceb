/**
 * Removes dead rows a few at a time, inside the transactions that issue codes: no timer, no cron,
 * and no index on time that every request would have to maintain. A cursor walks each table in
 * the order of its primary key.
 */
import { randomBytes } from 'node:crypto';
import type { Value } from './bind.ts';
import { SLOTS_MAX } from './ip-rate-limits.ts';
import { joinKeys } from './keyed-rows.ts';
import { KNOWN_SECONDS } from './otps.ts';
import { write } from './query.ts';
import type { Query } from './query.ts';
import type { Row } from './session.ts';
import type { Transaction } from './transaction.ts';

/** The names of rows that a transaction wrote, one in each table. */
export type WrittenRows = Readonly<{
  userId: string;
  address: string | null;
}>;

type SweptTable = Readonly<{
  name: string;
  /** The primary key. Tables are walked by its first column. */
  key: readonly string[];
  isDead: string;
  /** Where the walk begins; null: at the beginning. */
  firstOf: (rows: WrittenRows) => Value;
  /** The walk goes back to the beginning where it finds none dead: there are none beyond. */
  isInOrderOfTime?: true;
}>;

const IDEMPOTENCY_KEYS: SweptTable = {
  name: 'idempotency_keys',
  key: ['id'],
  isDead: 'expires_at <= NOW(6)',
  firstOf: () => null,
};

/** What is dead, table by table. Rows with a count of wrong codes are live (0002-otps.sql). */
const SWEPT_TABLES: readonly SweptTable[] = [
  { ...IDEMPOTENCY_KEYS, isInOrderOfTime: true },
  // Purposes may keep their keys for different times: what is dead is not always at the beginning.
  IDEMPOTENCY_KEYS,
  {
    name: 'otps',
    key: ['user_id', 'slot'],
    isDead: `consecutive_wrong = 0
      AND GREATEST(created_at, COALESCE(last_wrong_at, created_at))
        <= NOW(6) - INTERVAL ${KNOWN_SECONDS} SECOND`,
    firstOf: ({ userId }) => userId,
  },
  {
    name: 'ip_rate_limits',
    key: ['address', 'slot'],
    isDead: `used_at <= NOW(6) - INTERVAL IF(slot = ${SLOTS_MAX - 1}, 1800, 900) SECOND`,
    firstOf: ({ address }) => address,
  },
  {
    name: 'ip_rate_overflow',
    key: ['address', 'used_at'],
    isDead: 'used_at <= NOW(6) - INTERVAL 900 SECOND',
    firstOf: ({ address }) => address,
  },
];

/** A sweep looks at one table; each table's turn comes once in this many codes asked for. */
const CODES_PER_SWEEP = 8;

/** How fast a table is walked: so that there are never more dead rows than live ones. */
const ROWS_PER_CODE = 4;

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
}>;

/** Where the walk of a table is. */
type Walk = { after: Value };

/** Walks the tables, one step after every few requests for codes. One per process. */
export class Sweeper {
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
    const walk = this.#walks[turn] ??= { after: table.firstOf(near) };
    const rows = this.#codesSinceSweep * SWEPT_TABLES.length * ROWS_PER_CODE;
    this.#codesSinceSweep = 0;
    return createSweep(table, walk, rows);
  }
}

/** Counts the dead among so many rows, and moves on by them; null stands for the beginning. */
function createSweep(table: SweptTable, walk: Walk, rowsMax: number): Sweep {
  const first = table.key[0]!;
  const { after } = walk;
  const isAfter = after === null ? 'TRUE' : `${first} > ?`;
  let end: Value = after;
  let hasDead = false;
  return {
    inspect: {
      name: `${table.name}.inspect`,
      sql: `SELECT MAX(first) AS end, COUNT(*) AS seen, CAST(SUM(is_dead) AS SIGNED) AS dead
        FROM (SELECT ${first} AS first, (${table.isDead}) AS is_dead FROM ${table.name}
          WHERE ${isAfter} ORDER BY ${table.key.join(', ')} LIMIT ${rowsMax}) AS step`,
      values: after === null ? [] : [after],
      read: ([step]) => {
        end = step?.end as Value;
        hasDead = (step?.dead as number | null ?? 0) > 0;
        const mayGoOn = hasDead || table.isInOrderOfTime === undefined;
        walk.after = mayGoOn && step?.seen === rowsMax ? end : null;
      },
    },
    removeDead: async (tx) => {
      if (!hasDead) return;
      // One address may have more dead rows than one transaction should lock.
      const range = `${isAfter} AND ${first} <= ? AND ${table.isDead}
        ORDER BY ${table.key.join(', ')} LIMIT ${rowsMax}`;
      await deleteDead(tx, table, range, after === null ? [end] : [after, end]);
    },
  };
}

/** Locks the dead of a range that nobody holds, and leaves their deletion to the transaction. */
async function deleteDead(
  tx: Transaction,
  table: SweptTable,
  range: string,
  values: readonly Value[],
): Promise<void> {
  const lockSql = `SELECT ${table.key.join(', ')} FROM ${table.name} FORCE INDEX (PRIMARY)
    WHERE ${range} FOR UPDATE SKIP LOCKED`;
  const [locked] = await tx.ask(rowsBy(`${table.name}.lock_dead`, lockSql, values));
  if (locked.length === 0) return;
  // Dead still: the transaction may be about to use one of them again.
  const rows = joinKeys(table.name, table.key, locked.length);
  const deleteSql = `DELETE t FROM ${rows} WHERE ${table.isDead}`;
  const keys = locked.flatMap((row) => readKey(table, row));
  tx.writes.push(write(`${table.name}.delete_dead`, deleteSql, keys));
}

function rowsBy(name: string, sql: string, values: readonly Value[]): Query<readonly Row[]> {
  return { name, sql, values, read: (rows) => rows };
}

function readKey(table: SweptTable, row: Row): Value[] {
  return table.key.map((column) => row[column] as Value);
}
