/** The table otps, as those see it who know no more of a code than its public name. */
import { hexOf } from './hex.ts';
import type { Hex } from './hex.ts';
import { lockOtps } from './otps.ts';
import type { Ending, Otp } from './otps.ts';
import { repeat } from './query.ts';
import type { Query } from './query.ts';
import { readOtp } from './read-otp.ts';

/** The public name of a code, and the bundle that it may be of. */
export type OtpName = Readonly<{ otpId: Hex; bundleId: Hex }>;

/**
 * Finds the users of codes, without a lock: whoever changes a code locks all codes of its user
 * next, and looks again.
 *
 * @returns the user by code; of an unknown code nothing
 */
export function findUsers(names: readonly OtpName[]): Query<Map<Hex, string>> {
  return {
    name: 'otps.find_users',
    sql: `SELECT otp_id, user_id FROM otps FORCE INDEX (by_bundle) WHERE ${isOneOf(names)}`,
    values: valuesOf(names),
    read: (rows) => new Map(rows.map((row) => [hexOf(row.otp_id), row.user_id as string])),
  };
}

/** Reads all codes of the users of codes, without a lock, in no promised order. */
export function readOtpsOfUsers(names: readonly OtpName[]): Query<Otp[]> {
  return {
    name: 'otps.read_of_users',
    sql: `SELECT t.* FROM (SELECT DISTINCT user_id FROM otps FORCE INDEX (by_bundle)
        WHERE ${isOneOf(names)}) AS named
      STRAIGHT_JOIN otps AS t FORCE INDEX (PRIMARY) ON t.user_id = named.user_id`,
    values: valuesOf(names),
    read: (rows) => rows.map(readOtp),
  };
}

function isOneOf(names: readonly OtpName[]): string {
  return `(bundle_id, otp_id) IN (${repeat(names.length, '(X?,X?)')})`;
}

function valuesOf(names: readonly OtpName[]): Hex[] {
  return names.flatMap(({ bundleId, otpId }) => [bundleId, otpId]);
}

/**
 * Asks whether a code was given an ending, waiting for a transaction that may still be at it.
 *
 * @param otp a code that a transaction wrote whose COMMIT was not answered
 */
export function hasEnding(
  { userId, otpId }: Pick<Otp, 'userId' | 'otpId'>,
  ending: Ending,
): Query<boolean> {
  const { read, ...query } = lockOtps([userId]);
  return {
    ...query,
    read: (rows) => read(rows).some((otp) => otp.otpId === otpId && otp.ending === ending),
  };
}
