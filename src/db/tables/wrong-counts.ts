/**
 * The table wrong_counts: the consecutive wrong attempts of pairs whose OTPs have been swept, and
 * the locks of accounts. It is nearly always small, and a user without wrong attempts has no row.
 */
import { deleteFrom, joinKeys, repeat, toHex, write } from '../query.ts';
import type { Hex, Query, Value, Write } from '../query.ts';

export const USER_DIGEST_BYTES = 16;
export const PURPOSE_DIGEST_BYTES = 8;

/**
 * The count of a row that locks an account for everybody, or for the untrusted clients of the user
 * only. No sum of counts reaches it, so it is more than any limit, and the row is kept until an
 * operator unlocks the account: the counts that led to the lock may be forgotten before.
 */
export const ACCOUNT_LOCK = 65_535;
export const UNTRUSTED_LOCK = 65_534;

export type AccountLock = typeof ACCOUNT_LOCK | typeof UNTRUSTED_LOCK;

/**
 * The name of a pair: keyed digests of its user, and of its user, purpose and device. The lock of
 * an account has a digest of its own in place of the second.
 */
export type CountName = Readonly<{ userDigest: Hex; purposeDigest: Hex }>;

export type WrongCount = CountName & Readonly<{ consecutiveWrong: number }>;

const KEY = ['user_digest', 'purpose_digest'];

// FORCE INDEX: as in otps.ts.
const READ_SQL = `SELECT user_digest, purpose_digest, consecutive_wrong
  FROM wrong_counts FORCE INDEX (PRIMARY) WHERE user_digest IN (`;

/**
 * Reads and locks the counts of users. Lock order: after the otps rows of users, before the slots
 * of ip_rate_limits. A count appears only while the otps row that it comes from is locked.
 *
 * @param userDigests unique; the server locks in the order of the primary key
 */
export function lockWrongCounts(userDigests: readonly Hex[]): Query<WrongCount[]> {
  const { sql, ...query } = readWrongCounts(userDigests);
  return { ...query, name: 'wrong_counts.lock', sql: `${sql} FOR UPDATE` };
}

/** Reads the counts of users without locking. */
export function readWrongCounts(userDigests: readonly Hex[]): Query<WrongCount[]> {
  return {
    name: 'wrong_counts.read',
    sql: `${READ_SQL}${repeat(userDigests.length, 'X?')})`,
    values: userDigests,
    read: (rows) => rows.map((row) => ({
      userDigest: toHex(row.user_digest),
      purposeDigest: toHex(row.purpose_digest),
      consecutiveWrong: row.consecutive_wrong as number,
    })),
  };
}

/**
 * Locks accounts. The otps rows of their users are locked, so no other transaction inserts the same
 * row; one that locks the untrusted clients may be there.
 *
 * @param names sorted by user: one order for all transactions prevents deadlocks
 */
export function lockAccounts(names: readonly CountName[], lock: AccountLock): Write {
  const sql = `INSERT INTO wrong_counts (${KEY.join(', ')}, consecutive_wrong, counted_at)
    VALUES ${repeat(names.length, `(X?,X?,${lock},NOW(6))`)}
    ON DUPLICATE KEY UPDATE consecutive_wrong = ${lock}`;
  return write('wrong_counts.lock_accounts', sql, names.flatMap(toKey));
}

/** Deletes counts that are locked. */
export function deleteWrongCounts(names: readonly CountName[]): Write {
  const condition = `(${KEY.join(', ')}) IN (${repeat(names.length, '(X?,X?)')})`;
  return write('wrong_counts.delete', deleteFrom('wrong_counts') + condition, names.flatMap(toKey));
}

/** An expired otps row whose count must be kept. */
type CountedOtp = CountName & Readonly<{ batchId: Value; batchNumber: Value }>;

/**
 * Copies the counts of otps rows that the same transaction deletes next. The statement reads the
 * rows again under its own lock, so that it is right whatever was read before. Rows come in random
 * order: in the order of the digests they would leave the pages of the table a third full.
 *
 * @param condition which of the rows are deleted; SQL on the columns of otps
 */
export function keepCountsOf(otps: readonly CountedOtp[], condition: string): Write {
  const sql = `INSERT INTO wrong_counts (${KEY.join(', ')}, consecutive_wrong, counted_at)
    SELECT named.column_2, named.column_3, t.consecutive_wrong,
      LEAST(COALESCE(t.last_wrong_at, t.created_at), NOW(6))
    FROM ${joinKeys('otps', ['batch_id', 'batch_number'], otps.length,
    { placeholders: '?,?,X?,X?' })}
    WHERE t.user_id IS NOT NULL AND t.consecutive_wrong > 0 AND ${condition}
    FOR UPDATE
    ON DUPLICATE KEY UPDATE
      consecutive_wrong = wrong_counts.consecutive_wrong + t.consecutive_wrong,
      counted_at = GREATEST(wrong_counts.counted_at, COALESCE(t.last_wrong_at, t.created_at))`;
  return write('wrong_counts.keep', sql, otps.flatMap((otp) =>
    [otp.batchId, otp.batchNumber, ...toKey(otp)]));
}

function toKey({ userDigest, purposeDigest }: CountName): Hex[] {
  return [userDigest, purposeDigest];
}
