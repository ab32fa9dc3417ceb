/** Unlocks a pair on behalf of an operator (docs/api.md, "POST /otp/verify"). */
import { WrongCountRows } from './batch/otps.ts';
import { randomVerifyId } from './crypto/random.ts';
import { READ_CLOCK } from '../db/clock.ts';
import type { Instant } from '../db/instant.ts';
import { updateOtps } from '../db/tables/otps-write.ts';
import { lockOtps } from '../db/tables/otps.ts';
import type { PairName } from '../db/tables/otps.ts';
import { transaction } from '../db/transaction.ts';
import type { Deps } from './deps.ts';
import { countConsecutiveWrong, findNewestOtp } from './rules/lifecycle.ts';
import { lockSecondsLeft, NO_ATTEMPTS } from './rules/lockout.ts';
import { isVerifyStored, pushVerifyId } from './verify/commit-probe.ts';

/** Whether there was a lock; wrong attempts are reset in either case. */
type UnlockOutcome = 'unlocked' | 'not_locked' | 'unknown';

/**
 * Ends the lock of a pair and resets its wrong attempts. The OTP that the lock has closed stays
 * closed: the user requests a new code.
 *
 * @returns the outcome, and the time of the database
 * @throws Unavailable when the database does not answer
 */
export async function unlockPair(
  { pool, policies, secrets }: Pick<Deps, 'pool' | 'policies' | 'secrets'>,
  name: PairName,
): Promise<Readonly<{ outcome: UnlockOutcome; now: Instant }>> {
  const { userId, purpose } = name;
  return transaction(pool, async (tx) => {
    const counts = new WrongCountRows(secrets);
    const [otps, , now]
      = await tx.read(lockOtps([userId]), counts.query([userId], true), READ_CLOCK);
    const kept = counts.of(userId, purpose);
    counts.take(userId, purpose);
    counts.flush(tx);
    const pair = findNewestOtp(otps, purpose);
    const isLocked = lockSecondsLeft(pair, countConsecutiveWrong(otps, purpose, kept), now,
      policies.for(purpose)) !== null;
    const outcome = isLocked ? 'unlocked' : 'not_locked';
    if (pair === null) {
      if (kept > 0) return { outcome, now };
      tx.readOnly();
      return { outcome: 'unknown', now };
    }
    const verifyIds = pushVerifyId(pair.verifyIds, randomVerifyId());
    tx.commitProbe(isVerifyStored([{ ...name, verifyIds }]));
    // From now on, the pair stays known for the whole retention period.
    const freed = { ...NO_ATTEMPTS, lastWrongAt: now, consecutiveWrong: 0, verifyIds };
    tx.writes.push(updateOtps([{ ...pair, ...freed }]));
    return { outcome, now };
  });
}
