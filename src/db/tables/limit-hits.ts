/** The table limit_hits: the numbered uses of the limits beyond the contract's two. */
import type { Value } from '../bind.ts';
import type { Row } from '../connection.ts';
import { formatInstant, parseInstant } from '../instant.ts';
import type { Instant } from '../instant.ts';
import { joinKeys, repeat, write } from '../query.ts';
import type { Query, Write } from '../query.ts';

/** The column `kind` of each limit (schema/0004-limit-hits.sql). */
export const HIT_KINDS = Object.freeze({ user_daily: 1, destination: 2, wrong_codes: 3 });

/** Whose uses they are. */
export type LimitSubject = Readonly<{ subject: string; kind: number }>;

/** What locks the uses of a subject, and tells of the newest. */
export type HitCounter = LimitSubject & Readonly<{ newest: number; usedAt: Instant }>;

/** Uses that were made at one time; `number` is that of the last. */
export type Hit = Readonly<{ number: number; usedAt: Instant; points: number }>;

/** Uses with the subject that they are of. */
export type SubjectHit = LimitSubject & Hit;

/** Which uses are read: those from the one on that is `quota` - 1 before the newest. */
export type WantedHits = LimitSubject & Readonly<{ quota: number }>;

/** How many of the oldest uses are read, to be erased when they are dead. */
const OLDEST_MAX = 2;

// FORCE INDEX: as in otps.ts.
const COUNTERS_SQL = `SELECT subject, kind, used_at, newest FROM limit_hits FORCE INDEX (PRIMARY)
  WHERE (subject, kind, number) IN (`;
const HITS_SQL = `SELECT subject, kind, number, used_at, points
  FROM limit_hits AS t FORCE INDEX (PRIMARY)`;
/** A bound of constants is a look-up; one from a join would read all that is before it. */
const NEWEST_HITS_SQL = `${HITS_SQL} WHERE subject = ? AND kind = ? AND number > (SELECT newest - ?
  FROM limit_hits AS head FORCE INDEX (PRIMARY) WHERE subject = ? AND kind = ? AND number = 0)
  ORDER BY number`;
/** Without the whole key in the order all rows of a subject would be read and sorted. */
const OLDEST_HITS_SQL = `SELECT oldest.* FROM limit_hits AS head FORCE INDEX (PRIMARY) JOIN LATERAL
  (${HITS_SQL} WHERE t.subject = head.subject AND t.kind = head.kind AND t.number > 0
    ORDER BY t.subject, t.kind, t.number LIMIT ${OLDEST_MAX}) AS oldest
  WHERE (head.subject, head.kind, head.number) IN (`;
const INSERT_SQL =
  'INSERT INTO limit_hits (subject, kind, number, used_at, points, newest) VALUES ';
const ROW = '(?,?,?,?,?,?)';
const UPDATE_SQL_END = ' AS new ON DUPLICATE KEY UPDATE used_at = new.used_at, newest = new.newest';

/**
 * Locks the heads of subjects that have one until the end of the transaction. To be locked after
 * the codes of users and the slots of addresses. One that has none is arbitrated by `insertHeads`.
 *
 * @param subjects unique, at least 1; the server locks in the order of the primary key
 */
export function lockHitCounters(subjects: readonly LimitSubject[]): Query<HitCounter[]> {
  const { sql, ...query } = readHitCounters(subjects);
  return { ...query, name: 'limit_hits.lock', sql: `${sql} FOR UPDATE` };
}

/** Reads the heads of subjects and locks nothing: enough to refuse, never to grant. */
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
 * Reads uses of subjects, and the oldest ones of each, in no promised order; some may come twice.
 * To grant something by them, the heads must be locked, by an earlier statement.
 *
 * @param subjects unique, at least 1
 * @param wanted of subjects that have a quota, may be none; no quota is infinite
 * @param usesMax how many are read of each, at least as many as may be added to a subject
 */
export function readHits(
  subjects: readonly LimitSubject[],
  wanted: readonly WantedHits[],
  hitsMax: number,
): Query<SubjectHit[]> {
  const selects = [OLDEST_HITS_SQL + `${repeat(subjects.length, '(?,?,0)')})`,
    ...wanted.map(() => `(${NEWEST_HITS_SQL} LIMIT ${hitsMax})`)];
  return {
    name: 'limit_hits.read',
    sql: selects.join(' UNION ALL '),
    values: [
      ...subjects.flatMap(({ subject, kind }) => [subject, kind]),
      ...wanted.flatMap(({ subject, kind, quota }) => [subject, kind, quota, subject, kind]),
    ],
    read: (rows) => rows.map((row) => ({
      ...readSubject(row),
      number: row.number as number,
      usedAt: parseInstant(row.used_at as string),
      points: row.points as number,
    })),
  };
}

/**
 * Writes the heads of subjects that had none; fails, to be rerun, when another transaction was
 * first.
 *
 * @param heads sorted, so that transactions never wait for each other in a ring
 */
export function insertHitCounters(counters: readonly HitCounter[]): Write {
  const sql = INSERT_SQL + repeat(counters.length, ROW);
  return write('limit_hits.insert_counters', sql, counters.flatMap(toCounterValues));
}

/** Writes uses of subjects whose heads are locked or new, and those heads that are locked. */
export function storeHits(counters: readonly HitCounter[], hits: readonly SubjectHit[]): Write {
  const sql = INSERT_SQL + repeat(counters.length + hits.length, ROW) + UPDATE_SQL_END;
  const values = hits.flatMap(({ subject, kind, number, usedAt, points }) =>
    [subject, kind, number, formatInstant(usedAt), points, null]);
  return write('limit_hits.store', sql, [...counters.flatMap(toCounterValues), ...values]);
}

/**
 * Erases uses of subjects whose heads are locked. It waits for a sweep that may be at them, so it
 * comes before everything that others may wait for.
 */
export function deleteHits(hits: readonly SubjectHit[]): Write {
  const rows = joinKeys('limit_hits', ['subject', 'kind', 'number'], hits.length);
  const values = hits.flatMap(({ subject, kind, number }) => [subject, kind, number]);
  return write('limit_hits.delete', `DELETE t FROM ${rows}`, values);
}

function toCounterValues({ subject, kind, newest, usedAt }: HitCounter): Value[] {
  return [subject, kind, 0, formatInstant(usedAt), 0, newest];
}

function readSubject(row: Row): LimitSubject {
  return { subject: row.subject as string, kind: row.kind as number };
}
