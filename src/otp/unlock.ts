/** What an operator does for a locked pair (contract, POST /otp/verify: "until an operator"). */
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
 * Ends a lock and forgets the wrong attempts of a pair. Its code stays dead: the user asks for a
 * new one.
 *
 * @returns false when nothing is known of the pair
 * @throws Unavailable when the database cannot answer
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
    // The last wrong code gets the time of the unlocking: from then on the pair is known.
    const freed = { ...NO_ATTEMPTS, lastWrongAt: now, consecutiveWrong: 0, verifyIds };
    tx.writes.push(updateOtps([{ ...pair, ...freed }]));
    return true;
  });
}
