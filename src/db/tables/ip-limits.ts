/**
 * The points of each subject: the slots of ip_rate_limits, and in ip_rate_overflow what the slots
 * do not hold. The overflow needs a few index look-ups, however many rows it has. A subject is the
 * text of a client IP (`192.0.2.1`, `2001:db8::/64`) or of the /48 of one (`2001:db8::/48`), or
 * `recipient:` and a keyed digest of 16 bytes.
 */
import { formatInstant, parseInstant } from '../instant.ts';
import type { Instant } from '../instant.ts';
import { deleteFrom, orUpdate, repeat, write } from '../query.ts';
import type { Query, Row, Value, Write } from '../query.ts';

/** All slots of a subject are read and locked, so the number is small. */
export const SLOTS_MAX = 32;

/** The points taken at one instant, and how many of them were refunded. */
export type Slot = Readonly<{ slot: number; usedAt: Instant; points: number; refunded: number }>;

export type IpLimitSlot = Readonly<{ subject: string }> & Slot;

// FORCE INDEX: the server may scan a table that it estimates to be small; a locking scan would lock
// rows of other transactions, against the lock order.
const READ_SQL = `SELECT address, slot, used_at, points, refunded
  FROM ip_rate_limits FORCE INDEX (PRIMARY) WHERE address IN (`;
const INSERT_SQL =
  'INSERT INTO ip_rate_limits (address, slot, used_at, points, refunded) VALUES ';
const UPDATE_SQL_END = orUpdate('used_at', 'points', 'refunded');
const ROW = '(?,?,?,?,?)';

/** No subjects: nothing to read or lock. */
const NO_SLOTS: Query<IpLimitSlot[]> = Object.freeze({
  name: 'ip_rate_limits.none', sql: 'DO 0', values: [], read: () => [],
});

/**
 * Reads and locks all slots of subjects. Lock order: after the otps rows of users. A subject
 * without slots has nothing to lock; of two transactions that insert its first slot the second
 * fails and retries.
 *
 * @param subjects unique, may be empty; the server locks in the order of the primary key
 */
export function lockSlots(subjects: readonly string[]): Query<IpLimitSlot[]> {
  if (subjects.length === 0) return NO_SLOTS;
  const { sql, ...query } = readSlots(subjects);
  return { ...query, name: 'ip_rate_limits.lock', sql: `${sql} FOR UPDATE` };
}

/** Reads all slots without locking: enough to refuse a request, not to grant one. */
export function readSlots(subjects: readonly string[]): Query<IpLimitSlot[]> {
  if (subjects.length === 0) return NO_SLOTS;
  return {
    name: 'ip_rate_limits.read',
    sql: `${READ_SQL}${repeat(subjects.length, '?')})`,
    values: subjects,
    read: (rows) => rows.map(readSlot),
  };
}

/**
 * Inserts slots. A duplicate key means that another transaction was first: the caller retries.
 *
 * @param slots sorted by subject: one lock order for all transactions prevents deadlocks
 */
export function insertSlots(slots: readonly IpLimitSlot[]): Write {
  return write('ip_rate_limits.insert', INSERT_SQL + repeat(slots.length, ROW), toValues(slots));
}

/** Updates slots that are locked. */
export function updateSlots(slots: readonly IpLimitSlot[]): Write {
  const sql = INSERT_SQL + repeat(slots.length, ROW) + UPDATE_SQL_END;
  return write('ip_rate_limits.update', sql, toValues(slots));
}

/** Sets times of locked slots that the clock has not reached to now: the clock was set back. */
export function clampSlots(subjects: readonly string[]): Write {
  return write('ip_rate_limits.clamp', `UPDATE ip_rate_limits FORCE INDEX (PRIMARY)
    SET used_at = NOW(6) WHERE address IN (${repeat(subjects.length, '?')})
    AND used_at > NOW(6)`, subjects);
}

function toValues(slots: readonly IpLimitSlot[]): Value[] {
  const values: Value[] = [];
  for (const { subject, slot, usedAt, points, refunded } of slots) {
    values.push(subject, slot, formatInstant(usedAt), points, refunded);
  }
  return values;
}

function readSlot(row: Row): IpLimitSlot {
  return {
    subject: row.address as string,
    slot: row.slot as number,
    usedAt: parseInstant(row.used_at as string),
    points: row.points as number,
    refunded: row.refunded as number,
  };
}

/** `number` counts all points that the subject has taken so far, including these. */
export type OverflowHit = Readonly<{ usedAt: Instant; points: number; number: number }>;

export type IpOverflow = Readonly<{ subject: string }> & OverflowHit;

const OVERFLOW_COLUMNS = 'used_at, points, number';
const INSERT_OVERFLOW_SQL = `INSERT INTO ip_rate_overflow (address, ${OVERFLOW_COLUMNS}) VALUES `;
const INSERT_OVERFLOW_SQL_END = orUpdate('points', 'number');

/** Both ends of the overflow of one subject. */
export type OverflowEnds = Readonly<{
  /** The newest hit, expired or not; null: there is none. */
  newest: OverflowHit | null;
  /** The oldest live hits, as many as oldestMax. */
  oldest: OverflowHit[];
}>;

const READ_OVERFLOW_SQL = `SELECT
  ? AS is_newest, ${OVERFLOW_COLUMNS} FROM ip_rate_overflow FORCE INDEX (PRIMARY)
  WHERE address = ?`;

/**
 * Reads both ends of the overflow of a subject. Granting a point requires the lock on its slots.
 *
 * @param after hits at or before this instant are expired
 * @param until ignores later hits; null: no bound
 * @param oldestMax how many of the oldest live hits to read, at least 1
 */
export function readOverflow(
  subject: string,
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
    values: [1, subject, ...untilValues, 0, subject, formatInstant(after), ...untilValues],
    read: (rows) => {
      const newest = rows.find((row) => row.is_newest === 1);
      return {
        newest: newest === undefined ? null : readOverflowHit(newest),
        oldest: rows.filter((row) => row.is_newest === 0).map(readOverflowHit),
      };
    },
  };
}

/** Writes hits of subjects whose slots are locked. */
export function storeOverflow(hits: readonly IpOverflow[]): Write {
  const values: Value[] = [];
  for (const { subject, usedAt, points, number } of hits) {
    values.push(subject, formatInstant(usedAt), points, number);
  }
  const sql = INSERT_OVERFLOW_SQL + repeat(hits.length, '(?,?,?,?)') + INSERT_OVERFLOW_SQL_END;
  return write('ip_rate_overflow.store', sql, values);
}

/**
 * Does the same for the overflow of a subject: adds the points of the hits to one at `now`, and
 * deletes the hits.
 *
 * @param now read after the slots of the subject were locked
 */
export function clampOverflow(subject: string, now: Instant): readonly Write[] {
  const later = 'address = ? AND used_at > ?';
  const at = formatInstant(now);
  return [
    write('ip_rate_overflow.clamp', `INSERT INTO ip_rate_overflow (address, ${OVERFLOW_COLUMNS})
      SELECT * FROM (SELECT address, CAST(? AS DATETIME(6)) AS used_at, SUM(points) AS points,
        MAX(number) AS number FROM ip_rate_overflow FORCE INDEX (PRIMARY) WHERE ${later}
        GROUP BY address) AS later
      ON DUPLICATE KEY UPDATE points = ip_rate_overflow.points + later.points,
        number = later.number`, [at, subject, at]),
    write('ip_rate_overflow.clamp_delete', deleteFrom('ip_rate_overflow') + later, [subject, at]),
  ];
}

function readOverflowHit(row: Row): OverflowHit {
  return {
    usedAt: parseInstant(row.used_at as string),
    points: row.points as number,
    number: row.number as number,
  };
}
