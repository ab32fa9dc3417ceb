/** Unlocks a pair on behalf of an operator (docs/api.md, "POST /otp/verify"). */
import { randomVerifyId } from './crypto/random.ts';
import { READ_CLOCK } from '../db/clock.ts';
import type { ConnectionPool } from '../db/pool.ts';
import { updateOtps } from '../db/tables/otps-write.ts';
import { lockOtps } from '../db/tables/otps.ts';
import type { PairName } from '../db/tables/otps.ts';
import { transaction } from '../db/transaction.ts';
import { findNewestOtp } from './rules/lifecycle.ts';
import { NO_ATTEMPTS } from './rules/lockout.ts';
import { isVerifyStored, pushVerifyId } from './verify/commit-probe.ts';

/**
 * Ends the lock of a pair and resets its wrong attempts. The OTP that the lock has closed stays
 * closed: the user requests a new code.
 *
 * @returns false when the pair is unknown
 * @throws Unavailable when the database does not answer
 */
export async function unlockPair(pool: ConnectionPool, name: PairName): Promise<boolean> {
  return transaction(pool, async (tx) => {
    const [otps, now] = await tx.read(lockOtps([name.userId]), READ_CLOCK);
    const pair = findNewestOtp(otps, name.purpose);
    if (pair === null) {
      tx.readOnly();
      return false;
    }
    const verifyIds = pushVerifyId(pair.verifyIds, randomVerifyId());
    tx.commitProbe(isVerifyStored([{ ...name, verifyIds }]));
    // From now on, the pair stays known for the whole retention period.
    const freed = { ...NO_ATTEMPTS, lastWrongAt: now, consecutiveWrong: 0, verifyIds };
    tx.writes.push(updateOtps([{ ...pair, ...freed }]));
    return true;
  });
}
