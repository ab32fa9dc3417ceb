/**
 * The points of one client IP. A few points fit in slots; a client IP that many users share has the
 * rest in the overflow, of which only both ends are read.
 */
import type { Instant } from '../../db/instant.ts';
import { SLOTS_MAX } from '../../db/tables/ip-limits.ts';
import type { OverflowHit, Slot } from '../../db/tables/ip-limits.ts';
import { isPointLive, measureLimit } from './rolling-window.ts';
import type { LimitState, TimedPoints } from './rolling-window.ts';

/** The points that do not fit in the slots. */
export type Overflow = Readonly<{
  livePoints: number;
  /** The oldest live points, enough for every response that names a time. */
  oldest: readonly TimedPoints[];
  /** The newest hit, live or not; null when there is none. */
  newest: OverflowHit | null;
}>;

/** The overflow is null when it is empty or was not read. */
export type IpWindow = Readonly<{ slots: readonly Slot[]; overflow: Overflow | null }>;

/** The row to write for a point that is taken or refunded. */
export type IpLimitWrite =
  | Readonly<{ kind: 'slot'; slot: Slot }>
  | Readonly<{ kind: 'overflow'; hit: OverflowHit }>;

export const EMPTY_IP_WINDOW: IpWindow
  = Object.freeze({ slots: Object.freeze([]), overflow: null });

/** Whether the overflow must be read: it can have points only if the last slot is stored. */
export function mayHaveOverflow(slots: readonly Slot[]): boolean {
  return slots.some(({ slot }) => slot === SLOTS_MAX - 1);
}

export function countLivePoints(slots: readonly Slot[], now: Instant): number {
  return slots.reduce((sum, { usedAt, points }) =>
    sum + (isPointLive(usedAt, now) ? points : 0), 0);
}

export function measureIpLimit(
  { slots, overflow }: IpWindow,
  now: Instant,
  quota: number,
): LimitState {
  if (overflow === null) return measureLimit(slots, now, quota);
  const listed = overflow.oldest.reduce((sum, { points }) => sum + points, 0);
  const taken = [...slots, ...overflow.oldest];
  return measureLimit(taken, now, quota, overflow.livePoints - listed);
}

export type IpLimitChange = Readonly<{ after: IpWindow; write: IpLimitWrite }>;

/**
 * Takes one point now. It goes to the slot of this instant, else to an expired slot, else to a new
 * slot, else to the overflow.
 */
export function takePoint(window: IpWindow, now: Instant): IpLimitChange {
  const slot = nextSlot(window.slots, now);
  return slot === null ? appendToOverflow(window, now) : changeSlot(window, slot);
}

/**
 * Refunds a point that was taken at an instant, if it is live. At most as many live points as the
 * quota are refunded (schema/0002-ip-rate-limits.sql).
 *
 * @returns null when no point is refunded
 */
export function refundPoint(
  window: IpWindow,
  usedAt: Instant,
  now: Instant,
  quota: number,
): IpLimitChange | null {
  const live = window.slots.filter((slot) => isPointLive(slot.usedAt, now));
  const refunded = live.reduce((sum, slot) => sum + slot.refunded, 0);
  const slot = live.find((other) => other.usedAt === usedAt && other.points > 0);
  if (slot === undefined || refunded >= quota) return null;
  return changeSlot(window, { ...slot, points: slot.points - 1, refunded: slot.refunded + 1 });
}

function changeSlot(window: IpWindow, slot: Slot): IpLimitChange {
  const others = window.slots.filter((other) => other.slot !== slot.slot);
  return { after: { ...window, slots: [...others, slot] }, write: { kind: 'slot', slot } };
}

function nextSlot(slots: readonly Slot[], now: Instant): Slot | null {
  const same = slots.find(({ usedAt }) => usedAt === now);
  if (same !== undefined) return { ...same, points: same.points + 1 };
  const free = slots.find((slot) => !isPointLive(slot.usedAt, now));
  const next = slots.reduce((highest, { slot }) => Math.max(highest, slot), -1) + 1;
  const slot = free?.slot ?? next;
  return slot < SLOTS_MAX ? { slot, usedAt: now, points: 1, refunded: 0 } : null;
}

function appendToOverflow({ slots, overflow }: IpWindow, now: Instant): IpLimitChange {
  const { livePoints, oldest, newest } = overflow ?? { livePoints: 0, oldest: [], newest: null };
  // Not before the newest hit, even if the clock was set back: numbers grow with time.
  const usedAt = Math.max(now, newest?.usedAt ?? now);
  const before = newest?.usedAt === usedAt ? newest.points : 0;
  const hit = { usedAt, points: before + 1, number: (newest?.number ?? 0) + 1 };
  const isFirst = livePoints === before;
  return {
    after: {
      slots,
      overflow: {
        livePoints: livePoints + 1,
        oldest: isFirst ? [hit] : oldest,
        newest: hit,
      },
    },
    write: { kind: 'overflow', hit },
  };
}
