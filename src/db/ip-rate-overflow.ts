/**
 * The table ip_rate_overflow: the quota points of an address that has more than its slots hold.
 * What is asked about them takes a few index look-ups, however many they are.
 */
import type { Value } from './bind.ts';
import { formatInstant, parseInstant } from './instant.ts';
import type { Instant } from './instant.ts';
import { repeat, write } from './query.ts';
import type { Query, Write } from './query.ts';
import type { Row } from './session.ts';

/** Points that were used at one time, and how many the address has used so far, these included. */
export type OverflowUse = Readonly<{ usedAt: Instant; points: number; total: number }>;

/** A use with the address that it belongs to. */
export type AddressOverflow = Readonly<{ address: string }> & OverflowUse;

const COLUMNS = 'used_at, points, total';
const INSERT_SQL = `INSERT INTO ip_rate_overflow (address, ${COLUMNS}) VALUES `;
const INSERT_SQL_END = ' AS new ON DUPLICATE KEY UPDATE points = new.points, total = new.total';

/** The ends of an address's overflow. */
export type OverflowEnds = Readonly<{
  /** The newest use, also when its time is over; null when there is none. */
  newest: OverflowUse | null;
  /** The oldest uses that count, as many as were asked for. */
  oldest: OverflowUse[];
}>;

const READ_SQL = `SELECT ? AS is_newest, ${COLUMNS} FROM ip_rate_overflow FORCE INDEX (PRIMARY)
  WHERE address = ?`;

/**
 * Reads the ends of an address's overflow. To grant something by it, the slots of the address must
 * be locked.
 *
 * @param after what was used at or before it does not count
 * @param until what was used after it is left out; null for no such bound
 * @param oldestMax how many of the oldest are read, at least 1
 */
export function readOverflow(
  address: string,
  after: Instant,
  until: Instant | null,
  oldestMax: number,
): Query<OverflowEnds> {
  const bound = until === null ? '' : ' AND used_at <= ?';
  const boundValues = until === null ? [] : [formatInstant(until)];
  return {
    name: 'ip_rate_overflow.read',
    sql: `(${READ_SQL}${bound} ORDER BY used_at DESC LIMIT 1) UNION ALL
      (${READ_SQL} AND used_at > ?${bound} ORDER BY used_at LIMIT ${oldestMax})`,
    values: [1, address, ...boundValues, 0, address, formatInstant(after), ...boundValues],
    read: (rows) => {
      const newest = rows.find((row) => row.is_newest === 1);
      return {
        newest: newest === undefined ? null : readUse(newest),
        oldest: rows.filter((row) => row.is_newest === 0).map(readUse),
      };
    },
  };
}

/** Writes uses of addresses whose slots are locked. */
export function storeOverflow(uses: readonly AddressOverflow[]): Write {
  const values: Value[] = [];
  for (const { address, usedAt, points, total } of uses) {
    values.push(address, formatInstant(usedAt), points, total);
  }
  const sql = INSERT_SQL + repeat(uses.length, '(?,?,?,?)') + INSERT_SQL_END;
  return write('ip_rate_overflow.store', sql, values);
}

function readUse(row: Row): OverflowUse {
  return {
    usedAt: parseInstant(row.used_at as string),
    points: row.points as number,
    total: row.total as number,
  };
}
