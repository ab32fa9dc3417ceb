/**
 * Removes dead rows a few at a time, inside the transactions that issue codes: no timer, no cron,
 * and no index on time that every request would have to maintain. A cursor walks each table in
 * the order of its primary key, four rows for every row that may have been written; so there are
 * never more dead rows than live ones.
 */
import type { Value } from './bind.ts';
import { randomBytes } from 'node:crypto';
import type { Hex } from './hex.ts';
import { SLOTS_MAX } from './ip-rate-limits.ts';
import { SPENT_CODE_RETENTION_SECONDS } from './otps.ts';
import { repeat, write } from './query.ts';
import type { Query } from './query.ts';
import type { Row } from './session.ts';
import type { Transaction } from './transaction.ts';

/** The names of rows that a transaction wrote, one in each table. */
export type WrittenRows = Readonly<{
  keyDigest: Hex;
  userId: string;
  address: string;
}>;

type Key = readonly Value[];

type SweptTable = Readonly<{
  name: string;
  key: readonly string[];
  isDead: string;
  keyOf: (rows: WrittenRows) => Key;
}>;

const FIRST_TIME = '1970-01-01 00:00:00';

/** What is dead, table by table. Rows with a count of wrong codes are live (0002-otps.sql). */
const SWEPT_TABLES: readonly SweptTable[] = [
  {
    name: 'idempotency_keys',
    key: ['key_digest'],
    isDead: 'expires_at <= NOW(6)',
    keyOf: ({ keyDigest }) => [Buffer.from(keyDigest, 'hex')],
  },
  {
    name: 'otps',
    key: ['user_id', 'slot'],
    isDead: `consecutive_wrong = 0
      AND expires_at <= NOW(6) - INTERVAL ${SPENT_CODE_RETENTION_SECONDS} SECOND`,
    keyOf: ({ userId }) => [userId, 0],
  },
  {
    name: 'ip_rate_limits',
    key: ['address', 'slot'],
    isDead: `used_at <= NOW(6) - INTERVAL IF(slot = ${SLOTS_MAX - 1}, 1800, 900) SECOND`,
    keyOf: ({ address }) => [address, 0],
  },
  {
    name: 'ip_rate_overflow',
    key: ['address', 'used_at'],
    isDead: 'used_at <= NOW(6) - INTERVAL 900 SECOND',
    keyOf: ({ address }) => [address, FIRST_TIME],
  },
];

/** A sweep looks at one table; each table's turn comes once in this many codes asked for. */
const CODES_PER_SWEEP = 8;
const ROWS_PER_CODE = 4;

/** Rows in the order of the key: those after one key, up to another; null for no such bound. */
type Range = Readonly<{ after: Key | null; upTo: Key | null }>;

/** One step of the walk, in one transaction. */
export type Sweep = Readonly<{
  /** Looks at rows and locks nothing. To be asked before `removeDead`. */
  inspections: readonly [dead: Query<void>, next: Query<void>];
  /**
   * Leaves the deletion of the dead that were found to the transaction. To be called once all
   * locks are held: it locks only rows that nobody holds and waits for none, so it cannot
   * deadlock.
   */
  removeDead: (tx: Transaction) => Promise<void>;
}>;

/** Walks the tables, one step after every few requests for codes. One per process. */
export class Sweeper {
  readonly #ranges: (Range | undefined)[] = SWEPT_TABLES.map(() => undefined);
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
    const rows = this.#codesSinceSweep * SWEPT_TABLES.length * ROWS_PER_CODE;
    this.#codesSinceSweep = 0;
    const turn = this.#turn;
    this.#turn = (turn + 1) % SWEPT_TABLES.length;
    const table = SWEPT_TABLES[turn]!;
    const start = table.keyOf(near);
    const range = this.#ranges[turn] ?? { after: start, upTo: start };
    return createSweep(table, range, rows, (next) => { this.#ranges[turn] = next; });
  }
}

/** Finds the dead of a range, and the range of so many rows after it. */
function createSweep(
  table: SweptTable,
  range: Range,
  rows: number,
  moveTo: (next: Range) => void,
): Sweep {
  let dead: readonly Row[] = [];
  const columns = table.key.join(', ');
  const bounds = boundsOf(table, range);
  const after = boundsOf(table, { after: range.upTo, upTo: null });
  return {
    inspections: [
      {
        name: `${table.name}.find_dead`,
        sql: `SELECT ${columns} FROM ${table.name} WHERE ${bounds.sql} AND ${table.isDead}`,
        values: bounds.values,
        read: (found) => { dead = found; },
      },
      {
        name: `${table.name}.find_end`,
        sql: `SELECT ${columns} FROM ${table.name} WHERE ${after.sql}
          ORDER BY ${columns} LIMIT 1 OFFSET ${rows - 1}`,
        values: after.values,
        read: ([end]) => moveTo({
          after: range.upTo, upTo: end === undefined ? null : readKey(table, end),
        }),
      },
    ],
    removeDead: async (tx) => {
      if (dead.length > 0) await deleteDead(tx, table, dead);
    },
  };
}

/** Written out, because the server does not use an index for (a, b) > (?, ?). */
function boundsOf({ key }: SweptTable, { after, upTo }: Range): { sql: string; values: Value[] } {
  const [first, second] = key;
  const above = second === undefined ? `${first} > ?`
    : `${first} >= ? AND (${first} > ? OR ${second} > ?)`;
  const below = second === undefined ? `${first} <= ?`
    : `${first} <= ? AND (${first} < ? OR ${second} <= ?)`;
  const spread = (bound: Key | null): Value[] =>
    bound === null ? [] : second === undefined ? [...bound] : [bound[0]!, ...bound];
  return {
    sql: [after === null ? 'TRUE' : above, ...upTo === null ? [] : [below]].join(' AND '),
    values: [...spread(after), ...spread(upTo)],
  };
}

/**
 * By a join that goes from the keys to the table: an IN list may be answered by a scan, which
 * would wait for the locks of others, and deadlock.
 */
async function deleteDead(
  tx: Transaction,
  table: SweptTable,
  dead: readonly Row[],
): Promise<void> {
  const lockSql = `SELECT ${table.key.map((column) => `t.${column}`).join(', ')}
    ${joinKeys(table, dead.length)} WHERE ${table.isDead} FOR UPDATE OF t SKIP LOCKED`;
  const keys = dead.flatMap((row) => readKey(table, row));
  const [locked] = await tx.ask(rowsBy(`${table.name}.lock_dead`, lockSql, keys));
  if (locked.length === 0) return;
  // Dead still: the transaction may be about to use one of them again.
  const deleteSql = `DELETE t ${joinKeys(table, locked.length)} WHERE ${table.isDead}`;
  const lockedKeys = locked.flatMap((row) => readKey(table, row));
  tx.writes.push(write(`${table.name}.delete_dead`, deleteSql, lockedKeys));
}

function joinKeys(table: SweptTable, rows: number): string {
  const values = repeat(rows, `ROW(${repeat(table.key.length, '?')})`);
  const on = table.key.map((column, index) => `t.${column} = keys_of_dead.column_${index}`);
  return `FROM (VALUES ${values}) AS keys_of_dead
    STRAIGHT_JOIN ${table.name} AS t FORCE INDEX (PRIMARY) ON ${on.join(' AND ')}`;
}

function rowsBy(name: string, sql: string, values: readonly Value[]): Query<readonly Row[]> {
  return { name, sql, values, read: (rows) => rows };
}

function readKey(table: SweptTable, row: Row): Value[] {
  return table.key.map((column) => row[column] as Value);
}
