/** DELETE /otp/{otp_id} for a list of codes: find their users, lock, decide, write, commit. */
import { READ_CLOCK } from '../db/clock.ts';
import type { Hex } from '../db/hex.ts';
import { findUsers, haveEnding } from '../db/otps-by-id.ts';
import type { OtpName } from '../db/otps-by-id.ts';
import { lockOtps } from '../db/otps.ts';
import type { SessionPool } from '../db/pool.ts';
import { transaction } from '../db/transaction.ts';
import type { Transaction } from '../db/transaction.ts';
import { decideCancel } from './decide-cancel.ts';
import { OtpBook } from './otp-book.ts';
import { placesOf } from './otp-id.ts';
import type { CancelOutcome } from './outcome.ts';
import type { Secrets } from './secrets.ts';

/**
 * Cancels codes that are open. A message that was not sent yet is not sent any more: whoever sends
 * it asks before another attempt.
 *
 * @returns one outcome for each, in order
 * @throws Unavailable when the database cannot answer
 */
export function cancelCodes(
  { pool, secrets }: Readonly<{ pool: SessionPool; secrets: Secrets }>,
  otpIds: readonly Hex[],
): Promise<CancelOutcome[]> {
  const places = otpIds.flatMap((otpId) => placesOf(secrets, otpId));
  return transaction(pool, (tx) => cancelAll(tx, otpIds, places));
}

async function cancelAll(
  tx: Transaction,
  otpIds: readonly Hex[],
  places: readonly OtpName[],
): Promise<CancelOutcome[]> {
  const [users] = await tx.ask(findUsers(places));
  tx.hasNothingToKeep = true;
  if (users.size === 0) return otpIds.map(() => ({ kind: 'unknown' }));
  const [loaded, now] = await tx.ask(lockOtps([...new Set(users.values())]), READ_CLOCK);
  const otps = new OtpBook(loaded);
  const outcomes = otpIds.map((otpId) => {
    const otp = otps.find(users.get(otpId), otpId);
    const { outcome, otp: canceled } = decideCancel(otp, otps.of(otp?.userId ?? ''), now);
    if (canceled !== null) otps.put(canceled);
    return outcome;
  });
  const { changed } = otps;
  if (changed.length === 0) return outcomes;
  tx.hasNothingToKeep = false;
  tx.wasCommitted = haveEnding(changed, 'canceled');
  otps.store(tx);
  return outcomes;
}
