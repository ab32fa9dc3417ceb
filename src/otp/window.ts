/**
 * The true rolling window of both limits: a point is free again exactly 900 s after it was used
 * (contract, POST /otp/request).
 */
import { addSeconds, secondsUntil } from '../db/instant.ts';
import type { Instant } from '../db/instant.ts';
import type { Slot } from '../db/rate-limits.ts';
import type { LimitView } from './outcome.ts';
import { WINDOW_SECONDS } from './policy.ts';

/** One subject's limit at one time. */
export type LimitState = Readonly<{
  view: LimitView;
  /** Whole seconds until one more point can be used; 0 when it can be now. */
  cooldownSeconds: number;
}>;

/**
 * Measures a limit.
 *
 * @param slots all slots of the subject, in any order
 * @param now the database's clock
 * @param quota how many points may be live at a time
 */
export function measureLimit(slots: readonly Slot[], now: Instant, quota: number): LimitState {
  const live = liveSlots(slots, now);
  const used = live.reduce((sum, { points }) => sum + points, 0);
  const oldest = live[0];
  const resetSeconds = oldest === undefined ? WINDOW_SECONDS : secondsUntilFree(oldest, now);
  return {
    view: {
      quota,
      windowSeconds: WINDOW_SECONDS,
      remaining: Math.max(0, quota - used),
      resetSeconds,
    },
    cooldownSeconds: used < quota ? 0 : secondsUntilPointsFree(live, now, used - quota + 1),
  };
}

/**
 * Uses one point now.
 *
 * @returns the slot to write: that of this very time, one whose time is over, or a new one
 */
export function usePoint(slots: readonly Slot[], now: Instant): Slot {
  const same = slots.find(({ usedAt }) => usedAt === now);
  if (same !== undefined) return { ...same, points: same.points + 1 };
  const free = slots.find((slot) => !isLive(slot, now));
  const next = slots.reduce((highest, { slot }) => Math.max(highest, slot), -1) + 1;
  return { slot: free?.slot ?? next, usedAt: now, points: 1 };
}

function isLive(slot: Slot, now: Instant): boolean {
  return addSeconds(slot.usedAt, WINDOW_SECONDS) > now;
}

function liveSlots(slots: readonly Slot[], now: Instant): Slot[] {
  const live = slots.filter((slot) => isLive(slot, now));
  return live.length < 2 ? live : live.sort((a, b) => a.usedAt - b.usedAt);
}

function secondsUntilFree(slot: Slot, now: Instant): number {
  return secondsUntil(now, addSeconds(slot.usedAt, WINDOW_SECONDS));
}

/** Until the oldest `points` of the live ones are free, which lets one more be used. */
function secondsUntilPointsFree(live: readonly Slot[], now: Instant, points: number): number {
  let freed = 0;
  const last = live.find((slot) => (freed += slot.points) >= points);
  return last === undefined ? WINDOW_SECONDS : secondsUntilFree(last, now);
}
