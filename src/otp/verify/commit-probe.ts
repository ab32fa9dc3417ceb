/**
 * The commit probes of verifications. A verification may leave no new row, so each pair keeps the
 * ids of the last transactions that changed it.
 */
import { Unavailable } from '../../db/errors.ts';
import { mapResult } from '../../db/query.ts';
import type { Hex, Query } from '../../db/query.ts';
import { lockStoredVerifications } from '../../db/tables/idempotency-keys.ts';
import type { StoredVerification } from '../../db/tables/idempotency-keys.ts';
import {
  newestVerifyId, VERIFY_ID_DIGITS, VERIFY_IDS_BYTES, VERIFY_IDS_MAX,
} from '../../db/tables/otps-write.ts';
import { lockOtps } from '../../db/tables/otps.ts';
import type { Otp, PairName } from '../../db/tables/otps.ts';
import { findNewestOtp } from '../rules/lifecycle.ts';

/**
 * Adds an id to the stored ids of a pair, and drops the oldest. The verifications of one
 * transaction share one id, because they are committed together.
 */
export function pushVerifyId(verifyIds: Hex, verifyId: Hex): Hex {
  if (verifyIds.startsWith(verifyId)) return verifyIds;
  return (verifyId + verifyIds).slice(0, 2 * VERIFY_IDS_BYTES);
}

/** A pair as a transaction has written it, with its own id first. */
type WrittenPair = PairName & Pick<Otp, 'verifyIds'>;

/**
 * Tells whether a transaction has changed its pairs. The lock waits for the end of that
 * transaction. One pair is enough to tell; reading throws Unavailable when none can, because later
 * verifications have pushed out the ids of all pairs.
 *
 * @param pairs all pairs that the transaction wrote, at least 1
 */
export function isVerifyStored(pairs: readonly WrittenPair[]): Query<boolean> {
  const lock = lockOtps([...new Set(pairs.map(({ userId }) => userId))]);
  return mapResult(lock, (otps) => {
    for (const written of pairs) {
      const own = otps.filter(({ userId }) => userId === written.userId);
      const stored = isStored(written, findNewestOtp(own, written));
      if (stored !== null) return stored;
    }
    throw hidden();
  });
}

/**
 * Tells whether a transaction that changed no pair has erased its responses. A response is erased
 * at most once, so any other end means that this transaction did not erase it.
 *
 * @param erased all responses that the transaction erased, at least 1
 */
export function isKeyErased(erased: readonly StoredVerification[]): Query<boolean> {
  const lock = lockStoredVerifications(erased.map(({ keyDigest }) => keyDigest));
  return mapResult(lock, (stored) => {
    for (const { keyDigest, otpId, keyExpiresAt } of erased) {
      const now = stored.find((one) => one.keyDigest === keyDigest && one.otpId === otpId);
      if (now !== undefined) return now.keyExpiresAt === keyExpiresAt;
    }
    throw hidden();
  });
}

function hidden(): Unavailable {
  return new Unavailable('a commit was not answered, and others hide whether it happened');
}

/** Whether a pair was written; null when its ids do not tell. */
function isStored(written: WrittenPair, now: Otp | null): boolean | null {
  if (now === null) return null;
  const ids = splitVerifyIds(now.verifyIds);
  if (ids.includes(newestVerifyId(written.verifyIds))) return true;
  const before = splitVerifyIds(written.verifyIds)[1];
  // Ids are pushed out oldest first: while the id before the written one is there, or the list is
  // not full, an absent id was never written.
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
