/**
 * The true rolling window of both limits: a point is free again exactly 900 s after it was used
 * (contract, POST /otp/request).
 */
import { addSeconds, secondsUntil } from '../db/instant.ts';
import type { Instant } from '../db/instant.ts';
import type { Slot } from '../db/ip-rate-limits.ts';
import type { LimitView } from './outcome.ts';
import { WINDOW_SECONDS } from './policy.ts';

/** Points that were used at one time. */
export type Use = Readonly<{ usedAt: Instant; points: number }>;

/** One subject's limit at one time. */
export type LimitState = Readonly<{
  view: LimitView;
  /** Whole seconds until one more point can be used; 0 when it can be now. */
  cooldownSeconds: number;
}>;

/**
 * Measures a limit.
 *
 * @param uses all that is known of the subject, in any order
 * @param now the database's clock
 * @param quota how many points may be live at a time
 */
export function measureLimit(uses: readonly Use[], now: Instant, quota: number): LimitState {
  const live = liveUses(uses, now);
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
 * Uses one point of an address now.
 *
 * @returns the slot to write: that of this very time, one whose time is over, or a new one
 */
export function usePoint(slots: readonly Slot[], now: Instant): Slot {
  const same = slots.find(({ usedAt }) => usedAt === now);
  if (same !== undefined) return { ...same, points: same.points + 1 };
  const free = slots.find((slot) => !isPointLive(slot.usedAt, now));
  const next = slots.reduce((highest, { slot }) => Math.max(highest, slot), -1) + 1;
  return { slot: free?.slot ?? next, usedAt: now, points: 1 };
}

/** The slots of an address once one of them was written. */
export function replaceSlot(slots: readonly Slot[], written: Slot): Slot[] {
  return [...slots.filter(({ slot }) => slot !== written.slot), written];
}

/** Whether a point that was used at a time counts now. */
export function isPointLive(usedAt: Instant, now: Instant): boolean {
  return addSeconds(usedAt, WINDOW_SECONDS) > now;
}

function liveUses(uses: readonly Use[], now: Instant): Use[] {
  const live = uses.filter(({ usedAt }) => isPointLive(usedAt, now));
  return live.length < 2 ? live : live.sort((a, b) => a.usedAt - b.usedAt);
}

function secondsUntilFree({ usedAt }: Use, now: Instant): number {
  return secondsUntil(now, addSeconds(usedAt, WINDOW_SECONDS));
}

/** Until the oldest `points` of the live ones are free, which lets one more be used. */
function secondsUntilPointsFree(live: readonly Use[], now: Instant, points: number): number {
  let freed = 0;
  const last = live.find((use) => (freed += use.points) >= points);
  return last === undefined ? WINDOW_SECONDS : secondsUntilFree(last, now);
}
