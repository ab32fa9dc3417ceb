/** `otpd unlock USER PURPOSE`: ends a lock and forgets the wrong attempts. */
import type { PairName } from '../../db/otps.ts';
import type { SessionPool } from '../../db/pool.ts';
import { unlockPair } from '../unlock.ts';
import type { Report } from './report.ts';

/**
 * Unlocks a pair.
 *
 * @throws Unavailable when the database cannot answer
 */
export async function unlock(pool: SessionPool, pair: PairName): Promise<Report> {
  const isDone = await unlockPair(pool, pair);
  const line = isDone ? 'unlocked; the user can request a new code'
    : 'nothing is known of this user and purpose';
  const outcome = isDone ? 'unlocked' : 'unknown';
  const data = { outcome, user_id: pair.userId, purpose: pair.purpose };
  return { isDone, lines: [line], data };
}
