/** Unlocks an account or a pair on behalf of an operator (docs/api.md, "POST /otp/verify"). */
import { WrongCountRows } from './batch/otps.ts';
import { randomVerifyId } from './crypto/random.ts';
import { READ_CLOCK } from '../db/clock.ts';
import type { Instant } from '../db/instant.ts';
import { updateOtps } from '../db/tables/otps-write.ts';
import { lockOtps } from '../db/tables/otps.ts';
import type { Otp } from '../db/tables/otps.ts';
import { transaction } from '../db/transaction.ts';
import type { Transaction } from '../db/transaction.ts';
import type { Deps } from './deps.ts';
import { countAccountWrong, findNewestOtp } from './rules/lifecycle.ts';
import { isAccountLocked, lockSecondsLeft, NO_ATTEMPTS } from './rules/lockout.ts';
import { isVerifyStored, pushVerifyId } from './verify/commit-probe.ts';

export type UnlockResult = Readonly<{
  /** Whether a lock has ended; wrong attempts are reset in either case. */
  outcome: 'unlocked' | 'not_locked' | 'unknown';
  /** The time of the database. */
  now: Instant;
  /** The purposes that were unlocked and whose names are known. */
  purposes: readonly string[];
}>;

/**
 * Ends the lock of a pair and resets its wrong attempts, or does so for all purposes of a user. The
 * lock of the account ends once the wrong attempts that are left are below its limit. An OTP that a
 * lock has closed stays closed: the user requests a new code.
 *
 * @param purpose null for all purposes
 * @throws Unavailable when the database does not answer
 */
export async function unlockUser(
  { pool, policies, secrets }: Pick<Deps, 'pool' | 'policies' | 'secrets'>,
  userId: string,
  purpose: string | null,
): Promise<UnlockResult> {
  return transaction(pool, async (tx) => {
    const counts = new WrongCountRows(secrets);
    const [otps, , now]
      = await tx.read(lockOtps([userId]), counts.query([userId], true), READ_CLOCK);
    const wasLocked
      = isAccountLocked(countAccountWrong(otps, counts.ofAccount(userId)), policies.default);
    const pairs = otps.filter((otp) => findNewestOtp(otps, otp.purpose) === otp
      && (purpose === null || otp.purpose === purpose));
    if (purpose === null) counts.takeAccount(userId);
    else counts.take(userId, purpose);
    if (pairs.length === 0 && !counts.hasTaken) {
      tx.readOnly();
      return { outcome: 'unknown', now, purposes: [] };
    }
    const keptOthers = counts.ofUser(userId).reduce((sum, count) => sum + count, 0);
    const others = otps.filter((otp) => !pairs.includes(otp));
    const staysLocked = wasLocked
      && isAccountLocked(countAccountWrong(others, keptOthers), policies.default);
    if (!staysLocked) counts.takeAccountLock(userId);
    counts.flush(tx);
    resetPairs(tx, pairs, now);
    const hasUnlocked = wasLocked && !staysLocked
      || pairs.some((pair) => lockSecondsLeft(pair, now) !== null);
    return {
      outcome: hasUnlocked ? 'unlocked' : 'not_locked',
      now,
      purposes: pairs.map((pair) => pair.purpose),
    };
  });
}

/** From now on, the pairs stay known for the whole retention period. */
function resetPairs(tx: Transaction, pairs: readonly Otp[], now: Instant): void {
  if (pairs.length === 0) return;
  const verifyId = randomVerifyId();
  const reset = pairs.map((pair) => ({
    ...pair,
    ...NO_ATTEMPTS,
    lastWrongAt: now,
    consecutiveWrong: 0,
    verifyIds: pushVerifyId(pair.verifyIds, verifyId),
  }));
  tx.commitProbe(isVerifyStored(reset));
  tx.writes.push(updateOtps(reset));
}
