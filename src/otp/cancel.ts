/** DELETE /otp/{otp_id} for a batch: find the users, lock, decide, write, commit. */
import { OtpRows } from './batch/otps.ts';
import { decodeOtpId } from './crypto/secrets.ts';
import { READ_CLOCK } from '../db/clock.ts';
import type { Instant } from '../db/instant.ts';
import { findUsers, areClosed, lockOtps } from '../db/tables/otps.ts';
import type { Otp, OtpName } from '../db/tables/otps.ts';
import { transaction } from '../db/transaction.ts';
import type { Transaction } from '../db/transaction.ts';
import type { Deps } from './deps.ts';
import type { CancelOutcome, OtpCancellation } from './outcomes.ts';
import { isNeeded, isOpen } from './rules/lifecycle.ts';

/**
 * Cancels open OTPs. A message that still waits for another attempt is not sent, because the
 * dispatcher checks the OTP before each attempt but the first.
 *
 * @returns one outcome for each cancellation, in order
 * @throws Unavailable when the database does not answer
 */
export function cancelOtps(
  { pool, secrets }: Pick<Deps, 'pool' | 'secrets'>,
  cancellations: readonly OtpCancellation[],
  answerByMs?: number,
): Promise<CancelOutcome[]> {
  const names = cancellations.flatMap(({ otpId }) => decodeOtpId(secrets, otpId));
  return transaction(pool, (tx) => cancelAll(tx, cancellations, names), { answerByMs });
}

async function cancelAll(
  tx: Transaction,
  cancellations: readonly OtpCancellation[],
  names: readonly OtpName[],
): Promise<CancelOutcome[]> {
  const [users] = await tx.read(findUsers(names));
  if (users.size === 0) {
    tx.readOnly();
    return cancellations.map(() => ({ kind: 'unknown' }));
  }
  const [loaded, now] = await tx.read(lockOtps([...new Set(users.values())]), READ_CLOCK);
  const otps = new OtpRows(loaded);
  const outcomes = cancellations.map(({ otpId, apiClient, purposes }) => {
    const otp = otps.find(users.get(otpId), otpId);
    const { outcome, otp: canceled }
      = decideCancel(otp, otps.of(otp?.userId ?? ''), now, apiClient, purposes);
    if (canceled !== null) otps.put(canceled);
    return outcome;
  });
  const { changed } = otps;
  if (changed.length === 0) tx.readOnly();
  else {
    tx.commitProbe(areClosed(changed, 'canceled'));
    otps.flush(tx);
  }
  return outcomes;
}

/** The row to write is null when nothing changes. */
type CancelDecision = Readonly<{ outcome: CancelOutcome; otp: Otp | null }>;

/**
 * Closes an open OTP. Its points stay taken.
 *
 * @param otp null when no OTP has the id
 * @param otps all OTPs of its user, which are locked
 * @param apiClient who cancels; null for one that may cancel every OTP
 * @param purposes those that may be canceled; null for every purpose
 */
export function decideCancel(
  otp: Otp | null,
  otps: readonly Otp[],
  now: Instant,
  apiClient: string | null,
  purposes: ReadonlySet<string> | null = null,
): CancelDecision {
  if (otp === null || !isNeeded(otp, otps, now)) return end('unknown');
  if (apiClient !== null && otp.apiClient !== apiClient) return end('forbidden');
  if (purposes !== null && !purposes.has(otp.purpose)) return end('forbidden');
  if (otp.closeReason === 'canceled') return end('canceled');
  if (otp.redeemedAt !== null) return end('used');
  const mayBeRedeemed = isOpen(otp, otps) && now < otp.expiresAt;
  if (!mayBeRedeemed) return end('expired');
  return end('canceled', { ...otp, digest: null, closeReason: 'canceled' });
}

function end(kind: CancelOutcome['kind'], otp: Otp | null = null): CancelDecision {
  return { outcome: { kind }, otp };
}
