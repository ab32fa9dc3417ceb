/** What an operator is told of a user: read without a lock and without a write. */
import { READ_CLOCK } from '../db/clock.ts';
import { readOtps } from '../db/otps.ts';
import { findUnsent } from '../db/outbox.ts';
import type { SessionPool } from '../db/pool.ts';
import { transaction } from '../db/transaction.ts';
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
    const [unsent, otps, now] = await tx.askLast(findUnsent(bundleIds), otpsOf, READ_CLOCK);
    return describeUser(otps, unsent, now, policies);
  });
}
