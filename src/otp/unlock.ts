/** Unlocks a pair on behalf of an operator (docs/api.md, "POST /otp/verify"). */
import { WrongCountRows } from './batch/otps.ts';
import { randomVerifyId } from './crypto/random.ts';
import { READ_CLOCK } from '../db/clock.ts';
import { updateOtps } from '../db/tables/otps-write.ts';
import { lockOtps } from '../db/tables/otps.ts';
import type { PairName } from '../db/tables/otps.ts';
import { transaction } from '../db/transaction.ts';
import type { Deps } from './deps.ts';
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
export async function unlockPair(
  { pool, secrets }: Pick<Deps, 'pool' | 'secrets'>,
  name: PairName,
): Promise<boolean> {
  const { userId, purpose } = name;
  return transaction(pool, async (tx) => {
    const counts = new WrongCountRows(secrets);
    const [otps, , now]
      = await tx.read(lockOtps([userId]), counts.query([userId], true), READ_CLOCK);
    const hasCount = counts.of(userId, purpose) > 0;
    counts.take(userId, purpose);
    counts.flush(tx);
    const pair = findNewestOtp(otps, purpose);
    if (pair === null) {
      if (!hasCount) tx.readOnly();
      return hasCount;
    }
    const verifyIds = pushVerifyId(pair.verifyIds, randomVerifyId());
    tx.commitProbe(isVerifyStored([{ ...name, verifyIds }]));
    // From now on, the pair stays known for the whole retention period.
    const freed = { ...NO_ATTEMPTS, lastWrongAt: now, consecutiveWrong: 0, verifyIds };
    tx.writes.push(updateOtps([{ ...pair, ...freed }]));
    return true;
  });
}
