/** Which rows of which tables are dead, and in which order the tables are walked. */
import { Buffer } from 'node:buffer';
import type { Value } from '../bind.ts';
import type { Hex } from '../query.ts';
import { SLOTS_MAX } from '../tables/ip-limits.ts';
import { HIT_KINDS } from '../tables/limit-hits.ts';

/** The names of rows that a transaction wrote, one in each table. */
export type WrittenRows = Readonly<{
  batchId: Hex;
  userId: string;
  clientIp: string | null;
}>;

/** A table with dead rows in it. */
export type SweptTable = Readonly<{
  name: string;
  /** The primary key. Tables are walked by its first column. */
  key: readonly string[];
  /**
   * The index by which its rows are locked everywhere, when that is not the primary key. Rows that
   * have NULL in its first column are in nobody's way.
   */
  lockedBy?: Readonly<{ index: string; columns: readonly string[] }>;
  /** When a row came to its end, or will. */
  expiredSince: string;
  /**
   * What a row must be, too, to be dead. Where most are younger than that, their age comes first:
   * to compare a column with one time costs less than to compute when each came to its end.
   */
  condition?: string;
  /** Where the walk begins; null: at the beginning. */
  startAt: (rows: WrittenRows) => Value;
  /** The walk goes back to the beginning where it finds none dead: there are none beyond. */
  isInExpiryOrder?: true;
  /** Only where keys are kept for different times there are dead that other walks do not find. */
  isSlowUnlessKeyRetentionVaries?: true;
}>;

const IDEMPOTENCY_KEYS: SweptTable = {
  name: 'idempotency_keys',
  key: ['id'],
  expiredSince: 'expires_at',
  startAt: () => null,
};

/** For how many seconds rows are kept from the time that starts their retention. */
export type Retention = Readonly<{
  otpSeconds: number;
  ipPointSeconds: number;
  hitSeconds: Readonly<Record<keyof typeof HIT_KINDS, number>>;
}>;

/** The expired rows of each table; the headers of schema/ describe when a row expires. */
export function sweptTables(
  { otpSeconds, ipPointSeconds, hitSeconds }: Retention,
): readonly SweptTable[] {
  return [
    { ...IDEMPOTENCY_KEYS, isInExpiryOrder: true },
    // Purposes may keep keys for different times: expired keys are not always at the beginning.
    { ...IDEMPOTENCY_KEYS, isSlowUnlessKeyRetentionVaries: true },
    {
      name: 'otps',
      key: ['batch_id', 'batch_number'],
      lockedBy: { index: 'by_user', columns: ['user_id', 'number'] },
      expiredSince: `GREATEST(COALESCE(key_expires_at, created_at), IF(user_id IS NULL, created_at,
        GREATEST(created_at, COALESCE(last_wrong_at, created_at))
          + INTERVAL ${otpSeconds} SECOND))`,
      condition: `COALESCE(key_expires_at, created_at) <= NOW(6)
        AND (user_id IS NULL OR consecutive_wrong = 0)`,
      startAt: ({ batchId }) => Buffer.from(batchId, 'hex'),
    },
    {
      name: 'ip_rate_limits',
      key: ['address', 'slot'],
      // While the last slot is live, points go to ip_rate_overflow; those count for as long again.
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
        WHEN ${HIT_KINDS.wrong_codes} THEN ${hitSeconds.wrong_codes} END SECOND`,
      startAt: ({ userId }) => userId,
    },
  ];
}

/** The condition of the dead rows of a table. */
export function isExpiredRow({ expiredSince, condition = 'TRUE' }: SweptTable): string {
  return `${condition} AND ${expiredSince} <= NOW(6)`;
}
