/**
 * The true rolling window of both limits: a point is free again exactly 900 s after it was used
 * (contract, POST /otp/request).
 */
import { addSeconds, secondsUntil } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { LimitView } from '../outcomes.ts';
import { WINDOW_SECONDS } from '../policy/policy.ts';

/** Points that were used at one time. */
export type TimedPoints = Readonly<{ usedAt: Instant; points: number }>;

const MICROSECONDS_LIVE = addSeconds(0, WINDOW_SECONDS);

/** One subject's limit at one time. */
export type LimitState = Readonly<{
  view: LimitView;
  /** Whole seconds until one more point can be used; 0 when it can be now. */
  cooldownSeconds: number;
}>;

/**
 * Measures a limit.
 *
 * @param taken all that is known of the subject, in any order
 * @param now the database's clock
 * @param quota how many points may be live at a time
 * @param unlisted live points beside those of `taken`, none of them among the oldest
 */
export function measureLimit(
  taken: readonly TimedPoints[],
  now: Instant,
  quota: number,
  unlisted = 0,
): LimitState {
  const live = listLive(taken, now);
  const used = live.reduce((sum, { points }) => sum + points, unlisted);
  const oldest = live[0];
  const resetSeconds = oldest === undefined ? WINDOW_SECONDS : secondsUntilFree(oldest, now);
  return {
    view: {
      quota,
      remaining: Math.max(0, quota - used),
      resetSeconds,
    },
    cooldownSeconds: used < quota ? 0 : secondsUntilPointsFree(live, now, used - quota + 1),
  };
}

/** Whether a point that was used at a time counts now. */
export function isPointLive(usedAt: Instant, now: Instant): boolean {
  return usedAt > windowStart(now);
}

/** What was used after this counts; what was used at or before it is free again. */
export function windowStart(now: Instant): Instant {
  return now - MICROSECONDS_LIVE;
}

function listLive(taken: readonly TimedPoints[], now: Instant): TimedPoints[] {
  const live = taken.filter(({ usedAt, points }) => points > 0 && isPointLive(usedAt, now));
  return live.length < 2 ? live : live.sort((a, b) => a.usedAt - b.usedAt);
}

function secondsUntilFree({ usedAt }: TimedPoints, now: Instant): number {
  return secondsUntil(now, addSeconds(usedAt, WINDOW_SECONDS));
}

/** Until the oldest `points` of the live ones are free, which lets one more be used. */
function secondsUntilPointsFree(
  live: readonly TimedPoints[],
  now: Instant,
  points: number,
): number {
  let freed = 0;
  const last = live.find((each) => (freed += each.points) >= points);
  return last === undefined ? WINDOW_SECONDS : secondsUntilFree(last, now);
}
