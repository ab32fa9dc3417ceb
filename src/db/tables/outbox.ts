/** The table outbox: messages that no channel has accepted yet. */
import type { Value } from '../bind.ts';
import type { Row } from '../connection.ts';
import { formatInstant } from '../instant.ts';
import type { Instant } from '../instant.ts';
import { toHex, joinKeys, repeat, write } from '../query.ts';
import type { Hex, Query, Write } from '../query.ts';

/** Messages as they are kept. See schema/0007-outbox.sql for what each member means. */
export type SealedBatch = Readonly<{
  batchId: Hex;
  otpIds: readonly Hex[];
  keyId: string;
  sealed: Hex;
}>;

/** Who sends them, and until when nobody else may. */
type Lease = Readonly<{ owner: Hex; leasedUntil: Instant }>;

/** How many bytes name a process, and a bundle. */
export const OWNER_BYTES = 8;
export const BATCH_ID_BYTES = 8;

/** As many as are kept inside a row, so that no row needs pages of its own. */
export const BATCH_MESSAGES_MAX = 64;

const OTP_ID_DIGITS = 32;

const BY_ID = { placeholders: 'X?' } as const;

const COLUMNS = 'batch_id, otp_ids, key_id, sealed';
const INSERT_SQL = `INSERT INTO outbox (${COLUMNS}, owner, leased_until) VALUES `;
const ROW = '(X?,X?,?,X?,X?,?)';

/** Stores messages, all under one lease. */
export function insertBatches(batches: readonly SealedBatch[], lease: Lease): Write {
  const values: Value[] = [];
  const leasedUntil = formatInstant(lease.leasedUntil);
  for (const { batchId, otpIds, keyId, sealed } of batches) {
    values.push(batchId, otpIds.join(''), keyId, sealed, lease.owner, leasedUntil);
  }
  return write('outbox.insert', INSERT_SQL + repeat(batches.length, ROW), values);
}

/** Replaces the messages of bundles by what is left of them, where they have an owner still. */
export function replaceBatches(batches: readonly SealedBatch[], owner: Hex): Write {
  const values: Value[] = [];
  for (const { batchId, otpIds, keyId, sealed } of batches) {
    values.push(batchId, otpIds.join(''), keyId, sealed);
  }
  const sql = `UPDATE (VALUES ${repeat(batches.length, 'ROW(X?,X?,?,X?)')}) AS named
    STRAIGHT_JOIN outbox AS t FORCE INDEX (PRIMARY) ON t.batch_id = named.column_0
    SET t.otp_ids = named.column_1, t.key_id = named.column_2, t.sealed = named.column_3
    WHERE t.owner = X?`;
  return write('outbox.replace', sql, [...values, owner]);
}

/**
 * Erases bundles, those that are there. The hint keeps the server from a scan, as a join would, and
 * costs it half as much.
 */
export function deleteBatches(batchIds: readonly Hex[]): Write {
  const sql = `DELETE t FROM outbox AS t FORCE INDEX (PRIMARY)
    WHERE t.batch_id IN (${repeat(batchIds.length, 'X?')})`;
  return write('outbox.delete', sql, batchIds);
}

/** Renews the lease of bundles, or gives them a new owner; they must be locked. */
export function leaseBatches(batchIds: readonly Hex[], { owner, leasedUntil }: Lease): Write {
  const sql = `UPDATE ${joinKeys('outbox', ['batch_id'], batchIds.length, BY_ID)}
    SET t.owner = X?, t.leased_until = ?`;
  return write('outbox.lease', sql, [...batchIds, owner, formatInstant(leasedUntil)]);
}

/**
 * Finds bundles that their owner has left, or that somebody has just released, and locks them. It
 * waits for nobody.
 *
 * @param max how many at the most, those that were left first
 */
export function lockExpiredBatches(max: number): Query<SealedBatch[]> {
  return {
    name: 'outbox.lock_expired',
    sql: `SELECT ${COLUMNS} FROM outbox FORCE INDEX (by_lease)
      WHERE leased_until <= NOW(6) ORDER BY leased_until LIMIT ${max} FOR UPDATE SKIP LOCKED`,
    values: [],
    read: (rows) => rows.map(readBatch),
  };
}

/**
 * Locks those of bundles that are there and have an owner still. To be locked last of all; the
 * server does it in the order of the primary key, whatever theirs.
 */
export function lockOwnBatches(batchIds: readonly Hex[], owner: Hex): Query<Set<Hex>> {
  return {
    name: 'outbox.lock_own',
    sql: `SELECT batch_id FROM outbox FORCE INDEX (PRIMARY)
      WHERE batch_id IN (${repeat(batchIds.length, 'X?')}) AND owner = X? FOR UPDATE`,
    values: [...batchIds, owner],
    read: (rows) => new Set(rows.map((row) => toHex(row.batch_id))),
  };
}

/** The codes whose messages are in bundles, for whoever wants to know. */
export function findUnsent(batchIds: readonly Hex[]): Query<Set<Hex>> {
  return {
    name: 'outbox.find_unsent',
    sql: `SELECT otp_ids FROM outbox FORCE INDEX (PRIMARY)
      WHERE batch_id IN (${repeat(batchIds.length, 'X?')})`,
    values: batchIds,
    read: (rows) => new Set(rows.flatMap((row) => splitIds(toHex(row.otp_ids)))),
  };
}

/**
 * Asks whether a bundle was erased, waiting for a transaction that may still be at it.
 *
 * @param bundleId one that a transaction erased whose COMMIT was not answered
 */
export function isBatchDeleted(batchId: Hex): Query<boolean> {
  return {
    name: 'outbox.is_deleted',
    sql: `SELECT batch_id FROM outbox FORCE INDEX (PRIMARY) WHERE batch_id = X? FOR UPDATE`,
    values: [batchId],
    read: (rows) => rows.length === 0,
  };
}

function readBatch(row: Row): SealedBatch {
  return {
    batchId: toHex(row.batch_id),
    otpIds: splitIds(toHex(row.otp_ids)),
    keyId: row.key_id as string,
    sealed: toHex(row.sealed),
  };
}

function splitIds(text: Hex): Hex[] {
  return Array.from({ length: text.length / OTP_ID_DIGITS }, (_, index) =>
    text.slice(index * OTP_ID_DIGITS, (index + 1) * OTP_ID_DIGITS));
}
