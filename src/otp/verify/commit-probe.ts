/** Finds out whether a transaction of verifications whose COMMIT was not answered took effect. */
import { Unavailable } from '../../db/errors.ts';
import { mapResult } from '../../db/query.ts';
import type { Hex, Query } from '../../db/query.ts';
import {
  newestVerifyId, VERIFY_ID_DIGITS, VERIFY_IDS_BYTES, VERIFY_IDS_MAX,
} from '../../db/tables/otps-write.ts';
import { lockOtps } from '../../db/tables/otps.ts';
import type { Otp, PairName } from '../../db/tables/otps.ts';
import { findNewestOtp } from '../rules/lifecycle.ts';

/**
 * The names of the verifications that changed a pair, once another one has. Those of one
 * transaction have one name: they happen together or not at all.
 */
export function pushVerifyId(verifyIds: Hex, verifyId: Hex): Hex {
  if (verifyIds.startsWith(verifyId)) return verifyIds;
  return (verifyId + verifyIds).slice(0, 2 * VERIFY_IDS_BYTES);
}

/** A pair as a transaction has written it, with the name of its verification as the newest. */
type WrittenPair = PairName & Pick<Otp, 'verifyIds'>;

/**
 * Asks whether verifications changed their pairs, waiting for a transaction that may still be at
 * it.
 *
 * @param pairs all that a transaction wrote whose COMMIT was not answered; at least 1
 * @returns what any of them tells; its reading throws Unavailable when none does, because too many
 *   others have changed them all since
 */
export function isVerifyStored(pairs: readonly WrittenPair[]): Query<boolean> {
  const lock = lockOtps([...new Set(pairs.map(({ userId }) => userId))]);
  return mapResult(lock, (otps) => {
    for (const written of pairs) {
      const own = otps.filter(({ userId }) => userId === written.userId);
      const stored = isStored(written, findNewestOtp(own, written.purpose));
      if (stored !== null) return stored;
    }
    throw new Unavailable('a commit was not answered, and others hide whether it happened');
  });
}

/** Whether a pair was written; null when it does not tell. */
function isStored(written: WrittenPair, now: Otp | null): boolean | null {
  if (now === null) return null;
  const ids = splitVerifyIds(now.verifyIds);
  if (ids.includes(newestVerifyId(written.verifyIds))) return true;
  const before = splitVerifyIds(written.verifyIds)[1];
  // What is stored comes before what was there: where that is left, nothing was pushed out.
  const isWhole = before === undefined ? ids.length < VERIFY_IDS_MAX : ids.includes(before);
  return isWhole ? false : null;
}

function splitVerifyIds(verifyIds: Hex): Hex[] {
  const ids: Hex[] = [];
  for (let at = 0; at < verifyIds.length; at += VERIFY_ID_DIGITS) {
    ids.push(verifyIds.slice(at, at + VERIFY_ID_DIGITS));
  }
  return ids;
}
