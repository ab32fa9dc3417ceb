/** The table ip_rate_limits: quota points per client address, in slots. */
import type { Value } from '../bind.ts';
import type { Row } from '../connection.ts';
import { formatInstant, parseInstant } from '../instant.ts';
import type { Instant } from '../instant.ts';
import { repeat, write } from '../query.ts';
import type { Query, Write } from '../query.ts';

/** Slots of an address; all of them are read and locked, so they are few. */
export const SLOTS_MAX = 32;

/** One slot of an address: the points used at one time, and how many of them were given back. */
export type Slot = Readonly<{ slot: number; usedAt: Instant; points: number; refunded: number }>;

/** A slot with the address that it belongs to. */
export type IpLimitSlot = Readonly<{ clientIp: string }> & Slot;

// FORCE INDEX: a scan of a table that the server believes to be small would lock, and wait for,
// the rows of others, against the order of the locks.
const READ_SQL = `SELECT address, slot, used_at, points, refunded
  FROM ip_rate_limits FORCE INDEX (PRIMARY) WHERE address IN (`;
const INSERT_SQL =
  'INSERT INTO ip_rate_limits (address, slot, used_at, points, refunded) VALUES ';
const UPDATE_SQL_END = ` AS new ON DUPLICATE KEY UPDATE used_at = new.used_at,
  points = new.points, refunded = new.refunded`;
const ROW = '(?,?,?,?,?)';

/** Of no address there is nothing to read and nothing to lock. */
const NO_SLOTS: Query<IpLimitSlot[]> = Object.freeze({
  name: 'ip_rate_limits.none', sql: 'DO 0', values: [], read: () => [],
});

/**
 * Reads all slots of addresses and locks those that exist until the end of the transaction. To be
 * locked after the codes of users. An address that has none is arbitrated by `insertSlots`:
 * whoever comes second is rerun.
 *
 * @param addresses unique, may be none; the server locks in the order of the primary key
 */
export function lockSlots(addresses: readonly string[]): Query<IpLimitSlot[]> {
  if (addresses.length === 0) return NO_SLOTS;
  const { sql, ...query } = readSlots(addresses);
  return { ...query, name: 'ip_rate_limits.lock', sql: `${sql} FOR UPDATE` };
}

/** Reads all slots of addresses and locks nothing: enough to refuse, never to grant. */
export function readSlots(addresses: readonly string[]): Query<IpLimitSlot[]> {
  if (addresses.length === 0) return NO_SLOTS;
  return {
    name: 'ip_rate_limits.read',
    sql: `${READ_SQL}${repeat(addresses.length, '?')})`,
    values: addresses,
    read: (rows) => rows.map(readSlot),
  };
}

/**
 * Writes slots that did not exist; fails, to be rerun, when another transaction was first.
 *
 * @param slots sorted by address, so that transactions never wait for each other in a ring
 */
export function insertSlots(slots: readonly IpLimitSlot[]): Write {
  return write('ip_rate_limits.insert', INSERT_SQL + repeat(slots.length, ROW), toValues(slots));
}

/** Writes slots that exist and are locked. */
export function updateSlots(slots: readonly IpLimitSlot[]): Write {
  const sql = INSERT_SQL + repeat(slots.length, ROW) + UPDATE_SQL_END;
  return write('ip_rate_limits.update', sql, toValues(slots));
}

function toValues(slots: readonly IpLimitSlot[]): Value[] {
  const values: Value[] = [];
  for (const { clientIp, slot, usedAt, points, refunded } of slots) {
    values.push(clientIp, slot, formatInstant(usedAt), points, refunded);
  }
  return values;
}

function readSlot(row: Row): IpLimitSlot {
  return {
    clientIp: row.address as string,
    slot: row.slot as number,
    usedAt: parseInstant(row.used_at as string),
    points: row.points as number,
    refunded: row.refunded as number,
  };
}

/** Points that were used at one time, and how many the address has used so far, these included. */
export type OverflowHit = Readonly<{ usedAt: Instant; points: number; number: number }>;

/** A use with the address that it belongs to. */
export type IpOverflow = Readonly<{ clientIp: string }> & OverflowHit;

const OVERFLOW_COLUMNS = 'used_at, points, number';
const INSERT_OVERFLOW_SQL = `INSERT INTO ip_rate_overflow (address, ${OVERFLOW_COLUMNS}) VALUES `;
const INSERT_OVERFLOW_SQL_END
  = ' AS new ON DUPLICATE KEY UPDATE points = new.points, number = new.number';

/** The ends of an address's overflow. */
export type OverflowEnds = Readonly<{
  /** The newest use, also when its time is over; null when there is none. */
  newest: OverflowHit | null;
  /** The oldest uses that count, as many as were asked for. */
  oldest: OverflowHit[];
}>;

const READ_OVERFLOW_SQL = `SELECT
  ? AS is_newest, ${OVERFLOW_COLUMNS} FROM ip_rate_overflow FORCE INDEX (PRIMARY)
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
  const untilSql = until === null ? '' : ' AND used_at <= ?';
  const untilValues = until === null ? [] : [formatInstant(until)];
  return {
    name: 'ip_rate_overflow.read',
    sql: `(${READ_OVERFLOW_SQL}${untilSql} ORDER BY used_at DESC LIMIT 1) UNION ALL
      (${READ_OVERFLOW_SQL} AND used_at > ?${untilSql} ORDER BY used_at LIMIT ${oldestMax})`,
    values: [1, address, ...untilValues, 0, address, formatInstant(after), ...untilValues],
    read: (rows) => {
      const newest = rows.find((row) => row.is_newest === 1);
      return {
        newest: newest === undefined ? null : readOverflowHit(newest),
        oldest: rows.filter((row) => row.is_newest === 0).map(readOverflowHit),
      };
    },
  };
}

/** Writes uses of addresses whose slots are locked. */
export function storeOverflow(hits: readonly IpOverflow[]): Write {
  const values: Value[] = [];
  for (const { clientIp, usedAt, points, number } of hits) {
    values.push(clientIp, formatInstant(usedAt), points, number);
  }
  const sql = INSERT_OVERFLOW_SQL + repeat(hits.length, '(?,?,?,?)') + INSERT_OVERFLOW_SQL_END;
  return write('ip_rate_overflow.store', sql, values);
}

function readOverflowHit(row: Row): OverflowHit {
  return {
    usedAt: parseInstant(row.used_at as string),
    points: row.points as number,
    number: row.number as number,
  };
}
