/** The table otps, as those see it who know no more of a code than its public name. */
import { hexOf } from './hex.ts';
import type { Hex } from './hex.ts';
import { lockOtps } from './otps.ts';
import type { Ending, Otp } from './otps.ts';
import { joinKeys } from './keyed-rows.ts';
import { mapAnswer } from './query.ts';
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
    sql: `SELECT t.otp_id, t.user_id FROM ${named(names)} WHERE t.user_id IS NOT NULL`,
    values: valuesOf(names),
    read: (rows) => new Map(rows.map((row) => [hexOf(row.otp_id), row.user_id as string])),
  };
}

/** Reads all codes of the users of codes, without a lock, in no promised order. */
export function readOtpsOfUsers(names: readonly OtpName[]): Query<Otp[]> {
  return {
    name: 'otps.read_of_users',
    sql: `SELECT all_of.* FROM (SELECT DISTINCT t.user_id FROM ${named(names)}) AS users
      STRAIGHT_JOIN otps AS all_of FORCE INDEX (by_user) ON all_of.user_id = users.user_id`,
    values: valuesOf(names),
    read: (rows) => rows.map(readOtp),
  };
}

/** Codes by their names, as `t`: a bundle has a few dozen rows at the most, beside each other. */
function named(names: readonly OtpName[]): string {
  return joinKeys('otps', ['bundle_id', 'otp_id'], names.length, { marks: 'X?,X?' });
}

function valuesOf(names: readonly OtpName[]): Hex[] {
  return names.flatMap(({ bundleId, otpId }) => [bundleId, otpId]);
}

/**
 * Asks whether codes were given an ending, waiting for a transaction that may still be at it. That
 * others may have given it to some of them makes no difference: it is the same for all.
 *
 * @param written all codes that a transaction wrote whose COMMIT was not answered
 */
export function haveEnding(
  written: readonly Pick<Otp, 'userId' | 'otpId'>[],
  ending: Ending,
): Query<boolean> {
  const lock = lockOtps([...new Set(written.map(({ userId }) => userId))]);
  return mapAnswer(lock, (otps) => {
    const ended = new Set(otps.filter((otp) => otp.ending === ending).map(({ otpId }) => otpId));
    return written.every(({ otpId }) => ended.has(otpId));
  });
}
