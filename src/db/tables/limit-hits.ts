/**
 * The table limit_hits: numbered hits of the limits that do not count in slots. A counter is the
 * head row of a subject; its lock covers all hits of the subject.
 */
import { formatInstant, parseInstant } from '../instant.ts';
import type { Instant } from '../instant.ts';
import { deleteFrom, orUpdate, repeat, write } from '../query.ts';
import type { Query, Row, Value, Write } from '../query.ts';

/** The column `kind` of each limit. */
export const HIT_KINDS = Object.freeze({
  user_daily: 1, destination: 2, wrong_codes: 3, wrong_codes_net: 4,
});

/** What a limit counts for: a user, a destination, a client IP, or the /48 of one. */
export type LimitSubject = Readonly<{ subject: string; kind: number }>;

/** The head of a subject: its lock, with number and time of the newest hit. */
export type HitCounter = LimitSubject & Readonly<{ newest: number; usedAt: Instant }>;

/** Points taken at one instant; `number` is that of the last point. */
export type Hit = Readonly<{ number: number; usedAt: Instant; points: number }>;

export type SubjectHit = LimitSubject & Hit;

/** Selects the hits from number (newest - quota + 1) on, and the oldest of the window. */
export type WantedHits = LimitSubject & Readonly<{ quota: number; windowSeconds: number }>;

// FORCE INDEX: as in otps.ts.
const COUNTERS_SQL = `SELECT subject, kind, used_at, newest FROM limit_hits FORCE INDEX (PRIMARY)
  WHERE (subject, kind, number) IN (`;
const HITS_SQL = `SELECT subject, kind, number, used_at, points
  FROM limit_hits AS t FORCE INDEX (PRIMARY)`;
/** A scalar subquery is a constant bound of the index range; a join would read all earlier hits. */
const NEWEST_HITS_SQL = `${HITS_SQL} WHERE subject = ? AND kind = ? AND number > (SELECT newest - ?
  FROM limit_hits AS head FORCE INDEX (PRIMARY) WHERE subject = ? AND kind = ? AND number = 0)
  ORDER BY number`;
/** Reads the expired hits that are still stored: few, because each new hit deletes some. */
const FIRST_LIVE_SQL = `${HITS_SQL} WHERE subject = ? AND kind = ? AND number > 0
  AND used_at > NOW(6) - INTERVAL ? SECOND ORDER BY number LIMIT 1`;
/**
 * The oldest hit of each subject. The derived table looks up its number, so that the join reads one
 * row. Ordering by the whole key reads the index; otherwise the server sorts all rows of a subject.
 */
const OLDEST_HITS_SQL = `SELECT t.subject, t.kind, t.number, t.used_at, t.points
  FROM (SELECT subject, kind, (SELECT number FROM limit_hits AS one FORCE INDEX (PRIMARY)
      WHERE one.subject = head.subject AND one.kind = head.kind AND number > 0
      ORDER BY one.subject, one.kind, number LIMIT 1) AS number
    FROM limit_hits AS head FORCE INDEX (PRIMARY) WHERE (subject, kind, number) IN (`;
const OLDEST_HITS_SQL_END = `)) AS oldest STRAIGHT_JOIN limit_hits AS t FORCE INDEX (PRIMARY)
  ON t.subject = oldest.subject AND t.kind = oldest.kind AND t.number = oldest.number`;
const INSERT_SQL =
  'INSERT INTO limit_hits (subject, kind, number, used_at, points, newest) VALUES ';
const ROW = '(?,?,?,?,?,?)';
const UPDATE_SQL_END = orUpdate('used_at', 'newest');

/**
 * Locks the counters of subjects. Lock order: after the otps rows of users and the slots of client
 * IPs. A subject without a counter has nothing to lock: see insertHitCounters.
 *
 * @param subjects unique, at least 1; the server locks in the order of the primary key
 */
export function lockHitCounters(subjects: readonly LimitSubject[]): Query<HitCounter[]> {
  const { sql, ...query } = readHitCounters(subjects);
  return { ...query, name: 'limit_hits.lock', sql: `${sql} FOR UPDATE` };
}

/** Reads counters without locking: enough to refuse a request, not to grant one. */
export function readHitCounters(subjects: readonly LimitSubject[]): Query<HitCounter[]> {
  return {
    name: 'limit_hits.counters',
    sql: `${COUNTERS_SQL}${repeat(subjects.length, '(?,?,0)')})`,
    values: subjects.flatMap(({ subject, kind }) => [subject, kind]),
    read: (rows) => rows.map((row) => ({
      ...readSubject(row),
      newest: row.newest as number,
      usedAt: parseInstant(row.used_at as string),
    })),
  };
}

/**
 * Reads the hits that decide a limit and the oldest hit of each subject, in no particular order; a
 * hit may appear twice. Granting a point requires locked counters, in an earlier statement.
 *
 * @param subjects unique, at least 1
 * @param wanted the subjects with a finite quota; may be empty
 * @param hitsMax rows per subject, at least the number of points that the batch may add to one
 */
export function readHits(
  subjects: readonly LimitSubject[],
  wanted: readonly WantedHits[],
  hitsMax: number,
): Query<SubjectHit[]> {
  const selects = [OLDEST_HITS_SQL + repeat(subjects.length, '(?,?,0)') + OLDEST_HITS_SQL_END,
    ...wanted.map(() => `(${NEWEST_HITS_SQL} LIMIT ${hitsMax}) UNION ALL (${FIRST_LIVE_SQL})`)];
  return {
    name: 'limit_hits.read',
    sql: selects.join(' UNION ALL '),
    values: [
      ...subjects.flatMap(({ subject, kind }) => [subject, kind]),
      ...wanted.flatMap(({ subject, kind, quota, windowSeconds }) =>
        [subject, kind, quota, subject, kind, subject, kind, windowSeconds]),
    ],
    read: (rows) => rows.map((row) => ({ ...readSubject(row), ...readHit(row) })),
  };
}

/**
 * Inserts the counters of new subjects. A duplicate key means that another transaction was first:
 * the caller retries.
 *
 * @param counters sorted: one lock order for all transactions prevents deadlocks
 */
export function insertHitCounters(counters: readonly HitCounter[]): Write {
  const sql = INSERT_SQL + repeat(counters.length, ROW);
  return write('limit_hits.insert_counters', sql, counters.flatMap(toCounterValues));
}

/**
 * Locks counters and inserts those that are missing, for a transaction that takes locks which come
 * later in the lock order, and may count for these subjects.
 *
 * @param counters sorted, as they are inserted
 */
export function createHitCounters(counters: readonly HitCounter[]): Write {
  const { sql, ...insert } = insertHitCounters(counters);
  return { ...insert, name: 'limit_hits.create_counters', sql: sql + orUpdate('points') };
}

/** Inserts hits of subjects whose counters are locked or new, and updates the locked counters. */
export function storeHits(counters: readonly HitCounter[], hits: readonly SubjectHit[]): Write {
  const sql = INSERT_SQL + repeat(counters.length + hits.length, ROW) + UPDATE_SQL_END;
  const values = hits.flatMap(({ subject, kind, number, usedAt, points }) =>
    [subject, kind, number, formatInstant(usedAt), points, null]);
  return write('limit_hits.store', sql, [...counters.flatMap(toCounterValues), ...values]);
}

/**
 * Deletes hits of subjects whose counters are locked. The statement may wait for a sweep that holds
 * the hits, so it precedes every write that other transactions may wait for.
 */
export function deleteHits(hits: readonly SubjectHit[]): Write {
  const condition = `(subject, kind, number) IN (${repeat(hits.length, '(?,?,?)')})`;
  const values = hits.flatMap(({ subject, kind, number }) => [subject, kind, number]);
  return write('limit_hits.delete', deleteFrom('limit_hits') + condition, values);
}

/** Sets times of locked subjects that the clock has not reached to now: the clock was set back. */
export function clampHits(subjects: readonly LimitSubject[]): Write {
  return write('limit_hits.clamp', `UPDATE limit_hits FORCE INDEX (PRIMARY) SET used_at = NOW(6)
    WHERE (subject, kind) IN (${repeat(subjects.length, '(?,?)')})
    AND used_at > NOW(6)`, subjects.flatMap(({ subject, kind }) => [subject, kind]));
}

function toCounterValues({ subject, kind, newest, usedAt }: HitCounter): Value[] {
  return [subject, kind, 0, formatInstant(usedAt), 0, newest];
}

function readSubject(row: Row): LimitSubject {
  return { subject: row.subject as string, kind: row.kind as number };
}

function readHit(row: Row): Hit {
  return {
    number: row.number as number,
    usedAt: parseInstant(row.used_at as string),
    points: row.points as number,
  };
}
