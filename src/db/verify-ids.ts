/**
 * The names that verifications leave in the row of a pair, so that a process whose COMMIT went
 * unanswered can learn whether it happened (schema/0002-otps.sql).
 */
import type { Hex } from './hex.ts';
import { lockOtps, newestOtp } from './otps.ts';
import type { PairName } from './otps.ts';
import type { Query } from './query.ts';

/** How many bytes name a verification: enough, because only those of one pair must differ. */
export const VERIFY_ID_BYTES = 8;

/** Four: three wrong codes lock a pair, so more cannot follow while one COMMIT is in doubt. */
const VERIFY_IDS_MAX = 4;

/** How many bytes the names of a pair take at the most. */
export const VERIFY_IDS_BYTES = VERIFY_IDS_MAX * VERIFY_ID_BYTES;

const VERIFY_ID_DIGITS = 2 * VERIFY_ID_BYTES;

/**
 * The names of the verifications that changed a pair, once another one has. Those of one
 * transaction have one name: they happen together or not at all.
 */
export function pushVerifyId(verifyIds: Hex, verifyId: Hex): Hex {
  if (verifyIds.startsWith(verifyId)) return verifyIds;
  return (verifyId + verifyIds).slice(0, 2 * VERIFY_IDS_BYTES);
}

/**
 * Asks whether a verification changed its pair, waiting for a transaction that may still be at it.
 *
 * @param name a pair that a transaction wrote whose COMMIT was not answered
 * @param verifyId the verification that it wrote
 */
export function isVerifyStored({ userId, purpose }: PairName, verifyId: Hex): Query<boolean> {
  const { read, ...query } = lockOtps([userId]);
  const has = (verifyIds: Hex): boolean => {
    for (let at = 0; at < verifyIds.length; at += VERIFY_ID_DIGITS) {
      if (verifyIds.startsWith(verifyId, at)) return true;
    }
    return false;
  };
  return {
    ...query,
    read: (rows) => {
      const newest = newestOtp(read(rows), purpose);
      return newest !== null && has(newest.verifyIds);
    },
  };
}
