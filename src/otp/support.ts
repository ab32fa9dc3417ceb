/**
 * What an operator does for a user: unlock the account or a purpose, and revoke trusted devices
 * (docs/api.md, "The account"; docs/api.md, "Trusted devices").
 */
import { WrongCountRows } from './batch/otps.ts';
import { areIssuedBefore, SECONDS_PER_DAY } from './crypto/devices.ts';
import { randomVerifyId } from './crypto/random.ts';
import { READ_CLOCK } from '../db/clock.ts';
import type { Instant } from '../db/instant.ts';
import type { Hex } from '../db/query.ts';
import {
  deleteExpiredRevocations, isDeviceRevoked, readRevocations, storeRevocations,
} from '../db/tables/device-revocations.ts';
import { updateOtps } from '../db/tables/otps-write.ts';
import { lockOtps } from '../db/tables/otps.ts';
import type { Otp } from '../db/tables/otps.ts';
import { transaction } from '../db/transaction.ts';
import type { Transaction } from '../db/transaction.ts';
import type { Deps } from './deps.ts';
import { DEVICE_DAYS_MAX } from './policy/policy.ts';
import { countAccountWrong, findNewestOtp } from './rules/lifecycle.ts';
import { accountLockAt, isAccountLocked, lockSecondsLeft, NO_ATTEMPTS } from './rules/lockout.ts';
import { listDevices } from './user-report.ts';
import { isVerifyStored, pushVerifyId } from './verify/commit-probe.ts';

type UnlockResult = Readonly<{
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
    const wrong = countAccountWrong(otps, counts.ofAccount({ userId, device: '' }));
    const wasLocked = isAccountLocked(wrong, policies.default, '');
    const pairs = otps.filter((otp) => findNewestOtp(otps, otp) === otp
      && (purpose === null || otp.purpose === purpose));
    if (purpose === null) counts.takeAccount(userId);
    else counts.takePurpose(userId, purpose);
    if (pairs.length === 0 && !counts.hasTaken) {
      tx.readOnly();
      return { outcome: 'unknown', now, purposes: [] };
    }
    const keptOthers = counts.ofUser(userId).reduce((sum, count) => sum + count, 0);
    const others = otps.filter((otp) => !pairs.includes(otp));
    const lock = accountLockAt(countAccountWrong(others, keptOthers), policies.default);
    counts.takeAccountLock(userId);
    counts.flush(tx, wasLocked && lock !== null ? new Map([[userId, lock]]) : undefined);
    resetPairs(tx, pairs, now);
    const hasUnlocked = wasLocked && lock === null
      || pairs.some((pair) => lockSecondsLeft(pair, now) !== null);
    return {
      outcome: hasUnlocked ? 'unlocked' : 'not_locked',
      now,
      purposes: [...new Set(pairs.map((pair) => pair.purpose))],
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

/**
 * Revokes a trusted device of a user, or all of them: their tokens make nobody a device any more.
 * A client that verifies a code later becomes a device again. The lock on the OTPs of the user
 * waits for verifications that may be renewing a token.
 *
 * @param device null for all devices
 * @returns when they were revoked, by the clock of the database
 * @throws Unavailable when the database does not answer
 */
export async function revokeDevices(
  { pool, secrets }: Pick<Deps, 'pool' | 'secrets'>,
  userId: string,
  device: Hex | null,
): Promise<Instant> {
  return transaction(pool, async (tx) => {
    const [otps, before, now]
      = await tx.read(lockOtps([userId]), readRevocations([userId]), READ_CLOCK);
    // The tokens of all devices are revoked by their time, which has whole seconds.
    const recent = listDevices(secrets, otps, []).filter(({ lastSuccessAt }) =>
      lastSuccessAt !== null && !areIssuedBefore(lastSuccessAt, now));
    const devices = device === null ? ['', ...recent.map((one) => one.device)] : [device];
    tx.commitProbe(isDeviceRevoked(userId, devices[0]!, now, before));
    tx.writes.push(deleteExpiredRevocations(DEVICE_DAYS_MAX * SECONDS_PER_DAY));
    tx.writes.push(storeRevocations(userId, devices));
    return now;
  });
}
