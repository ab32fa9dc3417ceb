/** The table outbox: messages that no channel has accepted yet. */
import type { Value } from './bind.ts';
import { hexOf } from './hex.ts';
import type { Hex } from './hex.ts';
import { formatInstant, parseInstant } from './instant.ts';
import type { Instant } from './instant.ts';
import { joinKeys } from './keyed-rows.ts';
import { repeat, write } from './query.ts';
import type { Query, Write } from './query.ts';

/** A message as it is kept. See schema/0006-outbox.sql for what each member means. */
export type SealedMessage = Readonly<{
  otpId: Hex;
  keyId: string;
  sealed: Hex;
  expiresAt: Instant;
}>;

/** Who sends it, and until when nobody else may. */
export type Lease = Readonly<{ owner: Hex; leasedUntil: Instant }>;

/** How many bytes name a process. */
export const OWNER_BYTES = 8;

const PUT_SQL =
  'INSERT INTO outbox (otp_id, key_id, sealed, expires_at, owner, leased_until) VALUES ';
const ROW = '(X?,?,X?,?,X?,?)';

/** Stores messages, all under one lease. */
export function putMessages(messages: readonly SealedMessage[], lease: Lease): Write {
  const values: Value[] = [];
  const leasedUntil = formatInstant(lease.leasedUntil);
  for (const { otpId, keyId, sealed, expiresAt } of messages) {
    values.push(otpId, keyId, sealed, formatInstant(expiresAt), lease.owner, leasedUntil);
  }
  return write('outbox.put', PUT_SQL + repeat(messages.length, ROW), values);
}

/**
 * Erases messages, those that are there. In order, whatever theirs, so that transactions never wait
 * for each other in a ring.
 */
export function eraseMessages(otpIds: readonly Hex[]): Write {
  const sql = `DELETE t FROM ${joinKeys('outbox', ['otp_id'], otpIds.length, 'X?')}`;
  return write('outbox.erase', sql, [...otpIds].sort());
}

/** Renews the lease of messages, or gives them a new owner. They must be locked. */
export function leaseMessages(otpIds: readonly Hex[], { owner, leasedUntil }: Lease): Write {
  const sql = `UPDATE ${joinKeys('outbox', ['otp_id'], otpIds.length, 'X?')}
    SET t.owner = X?, t.leased_until = ?`;
  return write('outbox.lease', sql, [...otpIds, owner, formatInstant(leasedUntil)]);
}

/**
 * Finds messages that their owner has left, or that somebody has just released, and locks them. It
 * waits for nobody.
 *
 * @param max how many at the most, those that were left first
 */
export function lockLeftMessages(max: number): Query<SealedMessage[]> {
  return {
    name: 'outbox.lock_left',
    sql: `SELECT otp_id, key_id, sealed, expires_at FROM outbox FORCE INDEX (by_lease)
      WHERE leased_until <= NOW(6) ORDER BY leased_until LIMIT ${max} FOR UPDATE SKIP LOCKED`,
    values: [],
    read: (rows) => rows.map((row) => ({
      otpId: hexOf(row.otp_id),
      keyId: row.key_id as string,
      sealed: hexOf(row.sealed),
      expiresAt: parseInstant(row.expires_at as string),
    })),
  };
}

/** Locks those of messages that are there and have an owner still. To be locked last of all. */
export function lockOwnMessages(otpIds: readonly Hex[], owner: Hex): Query<Set<Hex>> {
  const { name, sql, values, read } = findMessages(otpIds);
  return {
    name: `${name}_own`,
    sql: `${sql} AND owner = X? FOR UPDATE`,
    values: [...values, owner],
    read,
  };
}

/** Which of messages are there still, for whoever wants to know. */
export function findMessages(otpIds: readonly Hex[]): Query<Set<Hex>> {
  return {
    name: 'outbox.find',
    sql: `SELECT otp_id FROM outbox FORCE INDEX (PRIMARY)
      WHERE otp_id IN (${repeat(otpIds.length, 'X?')})`,
    values: otpIds,
    read: (rows) => new Set(rows.map((row) => hexOf(row.otp_id))),
  };
}

/**
 * Asks whether a message was erased, waiting for a transaction that may still be at it.
 *
 * @param otpId a message that a transaction erased whose COMMIT was not answered
 */
export function isErased(otpId: Hex): Query<boolean> {
  const { name, sql, values, read } = findMessages([otpId]);
  return {
    name: `${name}_erased`,
    sql: `${sql} FOR UPDATE`,
    values,
    read: (rows) => !read(rows).has(otpId),
  };
}
