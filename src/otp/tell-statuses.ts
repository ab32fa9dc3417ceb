/** GET /otp/{otp_id} for a list of codes, without a lock and without a write. */
import { READ_CLOCK } from '../db/clock.ts';
import type { Hex } from '../db/hex.ts';
import { readOtpsOfUsers } from '../db/otps-by-id.ts';
import { findUnsent } from '../db/outbox.ts';
import type { SessionPool } from '../db/pool.ts';
import { transaction } from '../db/transaction.ts';
import { placesOf } from './otp-id.ts';
import type { StatusOutcome } from './outcome.ts';
import { groupBy } from './rows.ts';
import type { Secrets } from './secrets.ts';
import { statusOf } from './status-of.ts';

/**
 * Tells what became of codes.
 *
 * @returns one outcome for each, in order
 * @throws Unavailable when the database cannot answer
 */
export function tellStatuses(
  { pool, secrets }: Readonly<{ pool: SessionPool; secrets: Secrets }>,
  otpIds: readonly Hex[],
): Promise<StatusOutcome[]> {
  const places = otpIds.flatMap((otpId) => placesOf(secrets, otpId));
  const bundleIds = places.map(({ bundleId }) => bundleId);
  return transaction(pool, async (tx) => {
    // The outbox first: what is accepted in between is told as pending, and never as sent too soon.
    const [unsent, otps, now] = await tx.askLast(
      findUnsent(bundleIds), readOtpsOfUsers(places), READ_CLOCK);
    const otpsOf = groupBy(otps, ({ userId }) => userId);
    const byId = new Map(otps.map((otp) => [otp.otpId, otp]));
    return otpIds.map((otpId) => {
      const otp = byId.get(otpId) ?? null;
      return statusOf(otp, otpsOf.get(otp?.userId ?? '') ?? [], unsent.has(otpId), now);
    });
  });
}
