/** The table outbox: batches of messages that no channel has accepted yet. */
import { formatInstant } from '../instant.ts';
import type { Instant } from '../instant.ts';
import { deleteFrom, toHex, joinKeys, repeat, write } from '../query.ts';
import type { Hex, Query, Row, Value, Write } from '../query.ts';

/** Columns: schema/0007-outbox.sql. */
export type SealedBatch = Readonly<{
  batchId: Hex;
  otpIds: readonly Hex[];
  keyId: string;
  sealed: Hex;
}>;

/** Until leasedUntil only the owner may send the messages. */
type Lease = Readonly<{ owner: Hex; leasedUntil: Instant }>;

export const OWNER_BYTES = 8;
export const BATCH_ID_BYTES = 8;

/**
 * The id of the row by which a message is sent again after its provider has reported a failure: the
 * row of its batch may still have other messages. Every process finds it by the otp_id, which looks
 * like random bits.
 */
export function resendId(otpId: Hex): Hex {
  return otpId.slice(0, 2 * BATCH_ID_BYTES);
}

/** Keeps `sealed` inside the page of the row, so that no row needs pages of its own. */
export const BATCH_MESSAGES_MAX = 64;

const OTP_ID_DIGITS = 32;

const COLUMNS = 'batch_id, otp_ids, key_id, sealed';
const INSERT_SQL = `INSERT INTO outbox (${COLUMNS}, owner, leased_until) VALUES `;
const ROW = '(X?,X?,?,X?,X?,?)';

export function insertBatches(batches: readonly SealedBatch[], lease: Lease): Write {
  const values: Value[] = [];
  const leasedUntil = formatInstant(lease.leasedUntil);
  for (const { batchId, otpIds, keyId, sealed } of batches) {
    values.push(batchId, otpIds.join(''), keyId, sealed, lease.owner, leasedUntil);
  }
  return write('outbox.insert', INSERT_SQL + repeat(batches.length, ROW), values);
}

/** Writes the remaining messages of batches that `owner` still owns. */
export function replaceBatches(batches: readonly SealedBatch[], owner: Hex): Write {
  const values: Value[] = [];
  for (const { batchId, otpIds, keyId, sealed } of batches) {
    values.push(batchId, otpIds.join(''), keyId, sealed);
  }
  const rows = joinKeys('outbox', ['batch_id'], batches.length, { placeholders: 'X?,X?,?,X?' });
  const sql = `UPDATE ${rows}
    SET t.otp_ids = named.column_1, t.key_id = named.column_2, t.sealed = named.column_3
    WHERE t.owner = X?`;
  return write('outbox.replace', sql, [...values, owner]);
}

/** Deletes the batches that exist. */
export function deleteBatches(batchIds: readonly Hex[]): Write {
  const sql = `${deleteFrom('outbox')}batch_id IN (${repeat(batchIds.length, 'X?')})`;
  return write('outbox.delete', sql, batchIds);
}

/** Extends or ends the lease of batches that are locked. */
export function leaseBatches(batchIds: readonly Hex[], { owner, leasedUntil }: Lease): Write {
  const sql = `UPDATE outbox FORCE INDEX (PRIMARY) SET owner = X?, leased_until = ?
    WHERE batch_id IN (${repeat(batchIds.length, 'X?')})`;
  return write('outbox.lease', sql, [owner, formatInstant(leasedUntil), ...batchIds]);
}

/**
 * Finds batches whose lease has ended, the longest-ended first. Rows that another process holds are
 * skipped, so that neither this statement nor the claim has to wait. A claim rests on
 * `claimBatches` alone.
 */
export function findExpiredBatches(max: number): Query<Hex[]> {
  return {
    name: 'outbox.find_expired',
    sql: `SELECT batch_id FROM outbox FORCE INDEX (by_lease)
      WHERE leased_until <= NOW(6) ORDER BY leased_until LIMIT ${max} FOR UPDATE SKIP LOCKED`,
    values: [],
    read: readIds,
  };
}

/** Takes over those of the batches whose lease has ended by now. */
export function claimBatches(batchIds: readonly Hex[], { owner, leasedUntil }: Lease): Write {
  const sql = `UPDATE outbox FORCE INDEX (PRIMARY) SET owner = X?, leased_until = ?
    WHERE batch_id IN (${repeat(batchIds.length, 'X?')}) AND leased_until <= NOW(6)`;
  return write('outbox.claim', sql, [owner, formatInstant(leasedUntil), ...batchIds]);
}

/** Reads those of the batches that a claim of the same transaction has taken over. */
export function readClaimed(
  batchIds: readonly Hex[],
  { owner, leasedUntil }: Lease,
): Query<SealedBatch[]> {
  return {
    name: 'outbox.read_claimed',
    sql: `SELECT ${COLUMNS} FROM outbox FORCE INDEX (PRIMARY)
      WHERE batch_id IN (${repeat(batchIds.length, 'X?')}) AND owner = X? AND leased_until = ?`,
    values: [...batchIds, owner, formatInstant(leasedUntil)],
    read: (rows) => rows.map(readBatch),
  };
}

/**
 * Finds leases that end later than any lease from now on would: the clock was set back after they
 * were stored. Twice the length leaves room for leases that begin while the statement runs.
 */
export function findLongLeases(leaseSeconds: number): Query<Hex[]> {
  return {
    name: 'outbox.find_long',
    sql: `SELECT batch_id FROM outbox FORCE INDEX (by_lease)
      WHERE leased_until > NOW(6) + INTERVAL ${2 * leaseSeconds} SECOND LIMIT 1000`,
    values: [],
    read: readIds,
  };
}

/** Lets such leases begin now. The clock of their owner, if it lives, ends them no later. */
export function shortenLeases(batchIds: readonly Hex[], leaseSeconds: number): Write {
  return write('outbox.shorten', `UPDATE outbox FORCE INDEX (PRIMARY)
    SET leased_until = NOW(6) + INTERVAL ${leaseSeconds} SECOND
    WHERE batch_id IN (${repeat(batchIds.length, 'X?')})
    AND leased_until > NOW(6) + INTERVAL ${2 * leaseSeconds} SECOND`, batchIds);
}

function readIds(rows: readonly Row[]): Hex[] {
  return rows.map((row) => toHex(row.batch_id));
}

/**
 * Locks the batches that `owner` still owns. Lock order: last of all; the server locks in the order
 * of the primary key.
 */
export function lockOwnBatches(batchIds: readonly Hex[], owner: Hex): Query<Set<Hex>> {
  return {
    name: 'outbox.lock_own',
    sql: `SELECT batch_id FROM outbox FORCE INDEX (PRIMARY)
      WHERE batch_id IN (${repeat(batchIds.length, 'X?')}) AND owner = X? FOR UPDATE`,
    values: [...batchIds, owner],
    read: (rows) => new Set(readIds(rows)),
  };
}

/** Which of the OTPs in these batches still have an unsent message. */
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
 * Commit probe of a transaction that deleted a batch. The locking read waits for a transaction that
 * may still commit.
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
