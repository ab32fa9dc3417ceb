/** What an operator is told of a user: read without a lock and without a write. */
import { READ_CLOCK } from '../db/clock.ts';
import { readUses, USE_KINDS } from '../db/limit-uses.ts';
import type { SubjectUse } from '../db/limit-uses.ts';
import { readOtps } from '../db/otps.ts';
import type { Otp } from '../db/otps.ts';
import { findUnsent } from '../db/outbox.ts';
import type { SessionPool } from '../db/pool.ts';
import type { Query } from '../db/query.ts';
import { transaction } from '../db/transaction.ts';
import { inOrder } from './tally.ts';
import { describeUser } from './describe-user.ts';
import type { UserView } from './describe-user.ts';
import type { Policies } from './policy.ts';

/**
 * Tells what is known of a user.
 *
 * @returns null when nothing is known
 * @throws Unavailable when the database cannot answer
 */
export function showUser(
  { pool, policies }: Readonly<{ pool: SessionPool; policies: Policies }>,
  userId: string,
): Promise<UserView | null> {
  const otpsOf = readOtps([userId]);
  return transaction(pool, async (tx) => {
    const [earlier] = await tx.ask(otpsOf);
    const bundleIds = earlier.map(({ bundleId }) => bundleId);
    if (bundleIds.length === 0) bundleIds.push('');
    // The outbox before the codes, as in tell-statuses.ts: never told as sent too soon.
    const [unsent, otps, now, daily] = await tx.askLast(
      findUnsent(bundleIds), otpsOf, READ_CLOCK, ...dailyOf(userId, policies, earlier));
    return describeUser(otps, unsent, now, policies, inOrder(daily ?? []));
  });
}

/** The codes of a day, as many as the highest limit of the user's purposes, if there is one. */
function dailyOf(
  userId: string,
  policies: Policies,
  otps: readonly Otp[],
): readonly [Query<SubjectUse[]>] | readonly [] {
  const limits = otps.map(({ purpose }) => policies.for(purpose).userDailyLimit ?? Infinity)
    .filter((limit) => limit !== Infinity);
  if (limits.length === 0) return [];
  const subject = { subject: userId, kind: USE_KINDS.user_daily.kind };
  const quota = Math.max(...limits);
  return [readUses([subject], [{ ...subject, quota }], quota)];
}
