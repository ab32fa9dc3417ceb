/** What MySQL says at the end, and in between: whether promises were kept, and who is connected. */
import { openConnection } from '../../src/db/connection.ts';
import type { Connection } from '../../src/db/connection.ts';
import type { Victim } from './faults.ts';
import type { Tally } from './tally.ts';

async function withSession<T>(
  { server: { socketPath }, target: { settings } }: Victim,
  work: (session: Connection) => Promise<T>,
): Promise<T> {
  const session = await openConnection({ ...settings, socketPath });
  return work(session).finally(() => session.destroy());
}

/** The connections that MySQL has of otpd. */
export async function countConnections(victim: Victim): Promise<number> {
  return withSession(victim, async (session) => {
    const [row] = await session.run('count', `SELECT COUNT(*) AS n FROM
      information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()`, []);
    return Number(row?.n);
  });
}

/** Looks up every promise: how many were not kept, and two sums that must be equal. */
export async function audit(victim: Victim, { issued, redeemed }: Tally) {
  return withSession(victim, async (session) => {
    const codes = new Set((await session.run('codes', `SELECT LOWER(HEX(otp_id)) AS id
      FROM otps WHERE key_digest IS NOT NULL`, [])).map(({ id }) => id));
    const users = new Set((await session.run('users', `SELECT user_id AS id FROM otps
      WHERE redeemed_at IS NOT NULL`, [])).map(({ id }) => id));
    const [row] = await session.run('points',
      'SELECT COALESCE(SUM(points), 0) AS n FROM ip_rate_limits', []);
    const lost = issued.filter((id) => !codes.has(id)).length
      + redeemed.filter((id) => !users.has(id)).length;
    return { lost, codes: codes.size, points: Number(row?.n) };
  });
}
