/**
 * The tables user_rate_limits and ip_rate_limits: quota points per subject, in slots. A subject
 * is a user_id or a client address.
 */
import { formatInstant, parseInstant } from './instant.ts';
import type { Instant } from './instant.ts';
import { repeat, write } from './query.ts';
import type { Query, Write } from './query.ts';
import type { Row, Value } from './session.ts';

/** One slot of a subject: the points used at one time. */
export type Slot = Readonly<{ slot: number; usedAt: Instant; points: number }>;

/** A slot with the subject that it belongs to. */
export type SubjectSlot = Readonly<{ subject: string }> & Slot;

/** The statements over one of the two tables. */
export type RateLimits = Readonly<{
  /**
   * Reads all slots of subjects and locks those that exist until the end of the transaction. A
   * subject that has none is arbitrated by `insert`: whoever comes second is rerun.
   *
   * @param subjects unique; the server locks in the order of the primary key, whatever theirs
   */
  lock: (subjects: readonly string[]) => Query<SubjectSlot[]>;
  /** Reads all slots of subjects and locks nothing: enough to refuse, never to grant. */
  read: (subjects: readonly string[]) => Query<SubjectSlot[]>;
  /**
   * Writes slots that did not exist; fails, to be rerun, when another transaction was first.
   *
   * @param slots sorted by subject, so that transactions never wait for each other in a ring
   */
  insert: (slots: readonly SubjectSlot[]) => Write;
  /** Writes slots that exist and are locked. */
  update: (slots: readonly SubjectSlot[]) => Write;
}>;

/** The limits of users. Lock users before addresses. */
export const userRateLimits = createRateLimits('user_rate_limits', 'user_id');

/** The limits of client addresses. */
export const ipRateLimits = createRateLimits('ip_rate_limits', 'address');

function createRateLimits(table: string, subject: string): RateLimits {
  // FORCE INDEX: a scan of a table that the server believes to be small would lock, and wait
  // for, the rows of others, against the order of the locks.
  const readSql = `SELECT ${subject} AS subject, slot, used_at, points
    FROM ${table} FORCE INDEX (PRIMARY) WHERE ${subject} IN (`;
  const insertSql = `INSERT INTO ${table} (${subject}, slot, used_at, points) VALUES `;
  return Object.freeze({
    lock: (subjects) => ({
      name: `${table}.lock`,
      sql: `${readSql}${repeat(subjects.length, '?')}) FOR UPDATE`,
      values: subjects,
      read: (rows) => rows.map(readSlot),
    }),
    read: (subjects) => ({
      name: `${table}.read`,
      sql: `${readSql}${repeat(subjects.length, '?')})`,
      values: subjects,
      read: (rows) => rows.map(readSlot),
    }),
    insert: (slots) => write(
      `${table}.insert`, insertSql + repeat(slots.length, '(?,?,?,?)'), valuesOf(slots)),
    update: (slots) => write(
      `${table}.update`,
      `${insertSql}${repeat(slots.length, '(?,?,?,?)')} AS new
        ON DUPLICATE KEY UPDATE used_at = new.used_at, points = new.points`,
      valuesOf(slots),
    ),
  });
}

function valuesOf(slots: readonly SubjectSlot[]): Value[] {
  const values: Value[] = [];
  for (const { subject, slot, usedAt, points } of slots) {
    values.push(subject, slot, formatInstant(usedAt), points);
  }
  return values;
}

function readSlot(row: Row): SubjectSlot {
  return {
    subject: row.subject as string,
    slot: row.slot as number,
    usedAt: parseInstant(row.used_at as string),
    points: row.points as number,
  };
}
