/**
 * The tables user_rate_limits and ip_rate_limits: quota points per subject, in slots. A subject
 * is a user_id or a client address.
 */
import { formatNullableInstant, parseNullableInstant } from './instant.ts';
import type { Instant } from './instant.ts';
import { repeat } from './placeholders.ts';
import type { Row, Value } from './session.ts';
import type { Transaction } from './transaction.ts';

/** One slot of a subject: the points used at one time. usedAt null: none was ever used. */
export type Slot = Readonly<{ slot: number; usedAt: Instant | null; points: number }>;

/** A slot with the subject that it belongs to. */
export type SubjectSlot = Readonly<{ subject: string }> & Slot;

/** The statements over one of the two tables. */
export type RateLimits = Readonly<{
  /**
   * Locks subjects until the end of the transaction, creating the rows that are missing.
   *
   * @param subjects unique and sorted, so that transactions never wait for each other in a ring
   */
  lock: (tx: Transaction, subjects: readonly string[]) => Promise<void>;
  /** Reads all slots of locked subjects. */
  load: (tx: Transaction, subjects: readonly string[]) => Promise<SubjectSlot[]>;
  /** Writes slots of locked subjects, new ones and changed ones. */
  store: (tx: Transaction, slots: readonly SubjectSlot[]) => Promise<void>;
}>;

/** The limits of users. Lock users before addresses. */
export const userRateLimits = createRateLimits('user_rate_limits', 'user_id');

/** The limits of client addresses. */
export const ipRateLimits = createRateLimits('ip_rate_limits', 'address');

function createRateLimits(table: string, subject: string): RateLimits {
  // The upsert takes the exclusive lock at once, whether the row is there or not; a SELECT ...
  // FOR UPDATE of a row that is absent would lock nothing (or a gap, and deadlock).
  const lockSql = `INSERT INTO ${table} (${subject}, slot, points) VALUES `;
  const loadSql = `SELECT ${subject} AS subject, slot, used_at, points FROM ${table}
    WHERE ${subject} IN (`;
  const storeSql = `INSERT INTO ${table} (${subject}, slot, used_at, points) VALUES `;
  return Object.freeze({
    lock: async (tx, subjects) => {
      const rows = repeat(subjects.length, '(?,0,0)');
      const sql = `${lockSql}${rows} ON DUPLICATE KEY UPDATE points = ${table}.points`;
      await tx.run(`${table}.lock`, sql, subjects);
    },
    load: async (tx, subjects) => {
      const sql = `${loadSql}${repeat(subjects.length, '?')})`;
      const rows = await tx.run(`${table}.load`, sql, subjects);
      return rows.map(readSlot);
    },
    store: async (tx, slots) => {
      const values: Value[] = [];
      for (const { subject: name, slot, usedAt, points } of slots) {
        values.push(name, slot, formatNullableInstant(usedAt), points);
      }
      const sql = `${storeSql}${repeat(slots.length, '(?,?,?,?)')} AS new
        ON DUPLICATE KEY UPDATE used_at = new.used_at, points = new.points`;
      await tx.run(`${table}.store`, sql, values);
    },
  });
}

function readSlot(row: Row): SubjectSlot {
  return {
    subject: row.subject as string,
    slot: row.slot as number,
    usedAt: parseNullableInstant(row.used_at as string | null),
    points: row.points as number,
  };
}
