/** What an operator does for a locked pair (contract, POST /otp/verify: "until an operator"). */
import { lockOtps, newestOtp, updateOtps } from '../db/otps.ts';
import type { PairName } from '../db/otps.ts';
import type { SessionPool } from '../db/pool.ts';
import { transaction } from '../db/transaction.ts';
import { isVerifyStored, pushVerifyId } from '../db/verify-ids.ts';
import { NO_ATTEMPTS } from './attempts.ts';
import { drawVerifyId } from './draw.ts';

/**
 * Ends a lock and forgets the wrong attempts of a pair. Its code stays dead: the user asks for a
 * new one.
 *
 * @returns false when nothing is known of the pair
 * @throws Unavailable when the database cannot answer
 */
export async function unlockPair(pool: SessionPool, name: PairName): Promise<boolean> {
  return transaction(pool, async (tx) => {
    const [otps] = await tx.ask(lockOtps([name.userId]));
    const pair = newestOtp(otps, name.purpose);
    tx.hasNothingToKeep = pair === null;
    if (pair === null) return false;
    const verifyId = drawVerifyId();
    const verifyIds = pushVerifyId(pair.verifyIds, verifyId);
    tx.wasCommitted = isVerifyStored(name, verifyId);
    tx.writes.push(updateOtps([{ ...pair, ...NO_ATTEMPTS, consecutiveWrong: 0, verifyIds }]));
    return true;
  });
}
