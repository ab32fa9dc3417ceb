/** DELETE /otp/{otp_id} for a list of codes: find their users, lock, decide, write, commit. */
import { OtpRows } from './batch/otps.ts';
import { decodeOtpId } from './crypto/otp-id.ts';
import type { Secrets } from './crypto/secrets.ts';
import { READ_CLOCK } from '../db/clock.ts';
import type { Instant } from '../db/instant.ts';
import type { ConnectionPool } from '../db/pool.ts';
import type { Hex } from '../db/query.ts';
import { findUsers, areClosed, lockOtps } from '../db/tables/otps.ts';
import type { Otp, OtpName } from '../db/tables/otps.ts';
import { transaction } from '../db/transaction.ts';
import type { Transaction } from '../db/transaction.ts';
import type { CancelOutcome } from './outcomes.ts';
import { isNeeded, isOpen } from './rules/lifecycle.ts';

/**
 * Cancels codes that are open. A message that was not sent yet is not sent any more: whoever sends
 * it asks before another attempt.
 *
 * @returns one outcome for each, in order
 * @throws Unavailable when the database cannot answer
 */
export function cancelOtps(
  { pool, secrets }: Readonly<{ pool: ConnectionPool; secrets: Secrets }>,
  otpIds: readonly Hex[],
): Promise<CancelOutcome[]> {
  const places = otpIds.flatMap((otpId) => decodeOtpId(secrets, otpId));
  return transaction(pool, (tx) => cancelAll(tx, otpIds, places));
}

async function cancelAll(
  tx: Transaction,
  otpIds: readonly Hex[],
  places: readonly OtpName[],
): Promise<CancelOutcome[]> {
  const [users] = await tx.read(findUsers(places));
  tx.hasNothingToKeep = true;
  if (users.size === 0) return otpIds.map(() => ({ kind: 'unknown' }));
  const [loaded, now] = await tx.read(lockOtps([...new Set(users.values())]), READ_CLOCK);
  const otps = new OtpRows(loaded);
  const outcomes = otpIds.map((otpId) => {
    const otp = otps.find(users.get(otpId), otpId);
    const { outcome, otp: canceled } = decideCancel(otp, otps.of(otp?.userId ?? ''), now);
    if (canceled !== null) otps.put(canceled);
    return outcome;
  });
  const { changed } = otps;
  if (changed.length === 0) return outcomes;
  tx.hasNothingToKeep = false;
  tx.wasCommitted = areClosed(changed, 'canceled');
  otps.flush(tx);
  return outcomes;
}

/** How it ends, and the row to write: null when nothing changes. */
type CancelDecision = Readonly<{ outcome: CancelOutcome; otp: Otp | null }>;

/**
 * Decides a cancellation: an open code is closed, and its quota points stay used.
 *
 * @param otp the code, or null when none has the name
 * @param otps all codes of its user, read while they are locked
 */
export function decideCancel(
  otp: Otp | null,
  otps: readonly Otp[],
  now: Instant,
): CancelDecision {
  if (otp === null || !isNeeded(otp, otps, now)) return end('unknown');
  if (otp.closeReason === 'canceled') return end('canceled');
  if (otp.redeemedAt !== null) return end('used');
  const mayBeRedeemed = isOpen(otp, otps) && now < otp.expiresAt;
  if (!mayBeRedeemed) return end('expired');
  return end('canceled', { ...otp, digest: null, closeReason: 'canceled' });
}

function end(kind: CancelOutcome['kind'], otp: Otp | null = null): CancelDecision {
  return { outcome: { kind }, otp };
}
