/** What is told of a code (GET /otp/{otp_id}), as a pure function. */
import { groupBy } from './batch/changed-rows.ts';
import { decodeOtpId } from './crypto/otp-id.ts';
import type { Secrets } from './crypto/secrets.ts';
import { READ_CLOCK } from '../db/clock.ts';
import type { Instant } from '../db/instant.ts';
import type { ConnectionPool } from '../db/pool.ts';
import type { Hex } from '../db/query.ts';
import { readOtpsOfUsers } from '../db/tables/otps.ts';
import type { Otp } from '../db/tables/otps.ts';
import { findUnsent } from '../db/tables/outbox.ts';
import { transaction } from '../db/transaction.ts';
import type { OtpStatus, StatusOutcome } from './outcomes.ts';
import { isNeeded, newestOtp } from './rules/lifecycle.ts';

/**
 * Tells it. The first that applies: canceled or failed, verified, superseded by a newer code of the
 * pair, closed by a lock, expired; then whether a channel has accepted the message.
 *
 * @param otp the code, or null when none has the name
 * @param otps all codes of its user
 * @param isUnsent whether its message is in the outbox
 */
export function statusOf(
  otp: Otp | null,
  otps: readonly Otp[],
  isUnsent: boolean,
  now: Instant,
): StatusOutcome {
  if (otp === null || !isNeeded(otp, otps, now)) return { kind: 'unknown' };
  const { otpId, purpose, channel, createdAt, expiresAt } = otp;
  const status = findStatus(otp, otps, isUnsent, now);
  return { kind: 'known', otpId, purpose, status, channel, createdAt, expiresAt };
}

function findStatus(
  otp: Otp,
  otps: readonly Otp[],
  isUnsent: boolean,
  now: Instant,
): OtpStatus {
  if (otp.closeReason !== null) return otp.closeReason;
  if (otp.redeemedAt !== null) return 'verified';
  if (newestOtp(otps, otp.purpose) !== otp) return 'superseded';
  if (otp.digest === null) return 'locked';
  if (otp.expiresAt <= now) return 'expired';
  return isUnsent ? 'pending' : 'sent';
}

/**
 * Tells what became of codes.
 *
 * @returns one outcome for each, in order
 * @throws Unavailable when the database cannot answer
 */
export function readStatuses(
  { pool, secrets }: Readonly<{ pool: ConnectionPool; secrets: Secrets }>,
  otpIds: readonly Hex[],
): Promise<StatusOutcome[]> {
  const places = otpIds.flatMap((otpId) => decodeOtpId(secrets, otpId));
  const batchIds = places.map(({ batchId }) => batchId);
  return transaction(pool, async (tx) => {
    // The outbox first: what is accepted in between is told as pending, and never as sent too soon.
    const [unsent, otps, now] = await tx.readAndEnd(
      findUnsent(batchIds), readOtpsOfUsers(places), READ_CLOCK);
    const otpsOf = groupBy(otps, ({ userId }) => userId);
    const byId = new Map(otps.map((otp) => [otp.otpId, otp]));
    return otpIds.map((otpId) => {
      const otp = byId.get(otpId) ?? null;
      return statusOf(otp, otpsOf.get(otp?.userId ?? '') ?? [], unsent.has(otpId), now);
    });
  });
}
