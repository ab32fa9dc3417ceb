/**
 * The rolling window of the user limit and the IP limit: a point is free exactly 900 s after it was
 * taken (docs/api.md, "POST /otp/request").
 */
import { addSeconds, secondsUntil } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { OtpSummary } from '../../db/tables/otps.ts';
import type { LimitView } from '../outcomes.ts';
import { WINDOW_SECONDS } from '../policy/policy.ts';
import type { NamedQuota } from '../policy/policy.ts';

/** Points that were taken at one instant. */
export type TimedPoints = Readonly<{ usedAt: Instant; points: number }>;

/** Each OTP took one point when it was issued, unless the point was refunded. */
export function toTimedPoints(
  otps: readonly OtpSummary[],
  added: TimedPoints | null = null,
): TimedPoints[] {
  const taken = otps.map(({ createdAt, isRefunded }) =>
    ({ usedAt: createdAt, points: isRefunded ? 0 : 1 }));
  return added === null ? taken : [...taken, added];
}

const MICROSECONDS_LIVE = addSeconds(0, WINDOW_SECONDS);

export type LimitState = LimitView & Readonly<{
  /** Whole seconds until a point is free; 0 when one is free now. */
  cooldownSeconds: number;
}>;

/**
 * Measures a limit of live points.
 *
 * @param taken in any order
 * @param unlisted live points that are not in `taken`, none of them among the oldest
 */
export function measureLimit(
  { limit, quota }: NamedQuota,
  taken: readonly TimedPoints[],
  now: Instant,
  unlisted = 0,
): LimitState {
  const live = listLive(taken, now);
  const used = live.reduce((sum, { points }) => sum + points, unlisted);
  const oldest = live[0];
  const resetSeconds = oldest === undefined ? WINDOW_SECONDS : secondsUntilFree(oldest, now);
  return {
    limit,
    quota,
    remaining: Math.max(0, quota - used),
    resetSeconds,
    cooldownSeconds: used < quota ? 0 : secondsUntilPointsFree(live, now, used - quota + 1),
  };
}

/** Whether a point that was taken at `usedAt` counts now. */
export function isPointLive(usedAt: Instant, now: Instant): boolean {
  return usedAt > windowStart(now);
}

/** Points taken after this instant are live; those taken at or before it are free. */
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

/** Until the oldest `points` live points are free, which frees one point of the limit. */
function secondsUntilPointsFree(
  live: readonly TimedPoints[],
  now: Instant,
  points: number,
): number {
  let freed = 0;
  const last = live.find((each) => (freed += each.points) >= points);
  return last === undefined ? WINDOW_SECONDS : secondsUntilFree(last, now);
}
