/** Which rows of each table are expired, and in which order a pass reads the table. */
import { Buffer } from 'node:buffer';
import { toHex } from '../query.ts';
import type { Hex, Row, Value, Write } from '../query.ts';
import { SLOTS_MAX } from '../tables/ip-limits.ts';
import { HIT_KINDS } from '../tables/limit-hits.ts';
import type { PairName } from '../tables/otps.ts';
import { keepCountsOf } from '../tables/wrong-counts.ts';
import type { CountName } from '../tables/wrong-counts.ts';

/** The keys of rows that a transaction writes, one per table. */
export type WrittenRows = Readonly<{
  batchId: Hex;
  userId: string;
  clientIp: string | null;
}>;

export type SweptTable = Readonly<{
  name: string;
  /** The primary key; a pass follows its first column. */
  key: readonly string[];
  /**
   * The index through which transactions lock rows of the table, if not the primary key. Rows with
   * NULL in its first column are locked by the primary key.
   */
  lockedBy?: Readonly<{ index: string; columns: readonly string[] }>;
  /** SQL: the instant at which a row expires. */
  expiredSince: string;
  /**
   * SQL: a further condition for expiry, evaluated first. Comparing a plain column with one time is
   * cheaper than computing the expiry of every row, and most rows are too young.
   */
  condition?: string;
  /**
   * What must outlast an expired row: the columns to read with its lock, and the write that comes
   * before the deletion, or null.
   */
  keep?: Readonly<{
    columns: readonly string[];
    copy: (rows: readonly Row[], isExpired: string) => Write | null;
  }>;
  /** The key at which the first pass of a process starts; null: at the beginning of the table. */
  startAt: (rows: WrittenRows) => Value;
  /** Rows expire in key order, so a pass restarts after a step without expired rows. */
  isInExpiryOrder?: true;
  /** Another pass finds nearly all expired rows of the table. */
  isSlow?: true;
}>;

const IDEMPOTENCY_KEYS: SweptTable = {
  name: 'idempotency_keys',
  key: ['id'],
  expiredSince: 'expires_at',
  startAt: () => null,
};

/** Durations from the creation of a row, or from the last event that it records, to its expiry. */
export type Retention = Readonly<{
  otpSeconds: number;
  ipPointSeconds: number;
  hitSeconds: Readonly<Record<keyof typeof HIT_KINDS, number>>;
  wrongCountSeconds: number;
}>;

/** The consecutive wrong attempts that outlast the OTPs of a pair. */
export type KeptCounts = Readonly<{
  nameOf: (pair: PairName) => CountName;
  /** The lowest count that locks an account by itself; the row of a lock has a higher one. */
  lockedFrom: () => number;
}>;

/** The tables to sweep. The headers in schema/ describe when a row expires. */
export function sweptTables(
  { otpSeconds, ipPointSeconds, hitSeconds, wrongCountSeconds }: Retention,
  counts: KeptCounts,
): readonly SweptTable[] {
  return [
    { ...IDEMPOTENCY_KEYS, isInExpiryOrder: true },
    // A row that was stored before the clock was set back may live longer than the rows behind it.
    { ...IDEMPOTENCY_KEYS, isSlow: true },
    {
      name: 'otps',
      key: ['batch_id', 'batch_number'],
      lockedBy: { index: 'by_user', columns: ['user_id', 'number'] },
      expiredSince: `GREATEST(COALESCE(key_expires_at, created_at), IF(user_id IS NULL, created_at,
        GREATEST(created_at, COALESCE(last_wrong_at, created_at))
          + INTERVAL ${otpSeconds} SECOND))`,
      condition: 'COALESCE(key_expires_at, created_at) <= NOW(6)',
      keep: {
        columns: ['user_id', 'purpose', 'device', 'consecutive_wrong'],
        copy: (rows, isExpired) => keepCounts(rows, isExpired, counts),
      },
      startAt: ({ batchId }) => Buffer.from(batchId, 'hex'),
    },
    {
      name: 'wrong_counts',
      key: ['user_digest', 'purpose_digest'],
      expiredSince: `counted_at + INTERVAL ${wrongCountSeconds} SECOND`,
      // The policies may change while the process runs.
      get condition() { return `consecutive_wrong < ${counts.lockedFrom()}`; },
      // Random bytes, as the digests.
      startAt: ({ batchId }) => Buffer.from(batchId, 'hex'),
    },
    {
      name: 'ip_rate_limits',
      key: ['address', 'slot'],
      // While the last slot is live, points go to ip_rate_overflow, and are live for as long again.
      expiredSince: `used_at + INTERVAL
        IF(slot = ${SLOTS_MAX - 1}, ${2 * ipPointSeconds}, ${ipPointSeconds}) SECOND`,
      condition: `used_at <= NOW(6) - INTERVAL ${ipPointSeconds} SECOND`,
      startAt: ({ clientIp }) => clientIp,
    },
    {
      name: 'ip_rate_overflow',
      key: ['address', 'used_at'],
      expiredSince: `used_at + INTERVAL ${ipPointSeconds} SECOND`,
      startAt: ({ clientIp }) => clientIp,
    },
    {
      name: 'limit_hits',
      key: ['subject', 'kind', 'number'],
      expiredSince: `used_at + INTERVAL CASE kind
        WHEN ${HIT_KINDS.user_daily} THEN ${hitSeconds.user_daily}
        WHEN ${HIT_KINDS.destination} THEN ${hitSeconds.destination}
        WHEN ${HIT_KINDS.wrong_codes} THEN ${hitSeconds.wrong_codes}
        WHEN ${HIT_KINDS.wrong_codes_net} THEN ${hitSeconds.wrong_codes_net} END SECOND`,
      startAt: ({ userId }) => userId,
    },
  ];
}

function keepCounts(
  rows: readonly Row[],
  isExpired: string,
  { nameOf }: KeptCounts,
): Write | null {
  const counted = rows.filter((row) => row.user_id !== null && row.consecutive_wrong !== 0);
  if (counted.length === 0) return null;
  return keepCountsOf(counted.map((row) => ({
    ...nameOf({
      userId: row.user_id as string,
      purpose: row.purpose as string,
      device: toHex(row.device),
    }),
    batchId: row.batch_id as Value,
    batchNumber: row.batch_number as Value,
  })), isExpired);
}

/** SQL: whether a row of the table is expired. */
export function isExpiredRow({ expiredSince, condition = 'TRUE' }: SweptTable): string {
  return `${condition} AND ${expiredSince} <= NOW(6)`;
}
