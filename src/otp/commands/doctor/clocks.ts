/** Whether this machine and the database agree on the time. */
import { MICROSECONDS_PER_SECOND } from '../../../db/instant.ts';
import type { Instant } from '../../../db/instant.ts';
import { ok, warn } from './finding.ts';
import type { Finding } from './finding.ts';

const SKEW_MAX_SECONDS = 2;

/**
 * Judges the difference. otpd goes by the database's clock alone; who reads signed webhooks, or the
 * log, goes by another.
 *
 * @param before this machine's clock when the database was asked for its time
 * @param after the same when the answer was there: the time between is no difference
 */
export function judgeClocks(before: Instant, database: Instant, after: Instant): Finding {
  const skew = Math.max(before - database, database - after, 0) / MICROSECONDS_PER_SECOND;
  if (skew <= SKEW_MAX_SECONDS) return ok('clock', `within ${SKEW_MAX_SECONDS} s of this machine`);
  const side = database < before ? 'behind' : 'ahead of';
  return warn('clock', `the database is ${skew.toFixed(1)} s ${side} this machine`,
    'let NTP set both clocks: times in answers and of webhooks are the database\'s');
}
