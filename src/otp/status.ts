/** GET /otp/{otp_id} for a batch of ids, and the status of an OTP as a pure function. */
import { groupBy } from './batch/changed-rows.ts';
import { decodeOtpId } from './crypto/secrets.ts';
import { READ_CLOCK } from '../db/clock.ts';
import type { Instant } from '../db/instant.ts';
import type { Hex } from '../db/query.ts';
import { readOtpsOfUsers } from '../db/tables/otps.ts';
import type { Otp } from '../db/tables/otps.ts';
import { findUnsent, resendId } from '../db/tables/outbox.ts';
import { transaction } from '../db/transaction.ts';
import type { Deps } from './deps.ts';
import type { OtpStatus, StatusOutcome } from './outcomes.ts';
import { isNeeded, findNewestOtp } from './rules/lifecycle.ts';

/**
 * The status of an OTP, the first that applies: canceled or failed, verified, superseded by a newer
 * OTP of the pair, locked, expired, pending, sent.
 *
 * @param otp null when no OTP has the id
 * @param otps all OTPs of its user
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
  if (findNewestOtp(otps, otp) !== otp) return 'superseded';
  if (otp.digest === null) return 'locked';
  if (otp.expiresAt <= now) return 'expired';
  return isUnsent ? 'pending' : 'sent';
}

/**
 * Reads statuses in one transaction.
 *
 * @returns one outcome for each id, in order
 * @throws Unavailable when the database does not answer
 */
export function readStatuses(
  { pool, secrets }: Pick<Deps, 'pool' | 'secrets'>,
  otpIds: readonly Hex[],
  answerByMs?: number,
): Promise<StatusOutcome[]> {
  const names = otpIds.flatMap((otpId) => decodeOtpId(secrets, otpId));
  const batchIds = [...names.map(({ batchId }) => batchId), ...otpIds.map(resendId)];
  return transaction(pool, async (tx) => {
    // The outbox is read before the OTPs: in the other order, an OTP that fails in between would
    // count as sent.
    const [unsent, otps, now] = await tx.readAndEnd(
      findUnsent(batchIds), readOtpsOfUsers(names), READ_CLOCK);
    const otpsOf = groupBy(otps, ({ userId }) => userId);
    const byId = new Map(otps.map((otp) => [otp.otpId, otp]));
    return otpIds.map((otpId) => {
      const otp = byId.get(otpId) ?? null;
      return statusOf(otp, otpsOf.get(otp?.userId ?? '') ?? [], unsent.has(otpId), now);
    });
  }, { answerByMs });
}
