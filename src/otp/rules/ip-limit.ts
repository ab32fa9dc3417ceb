/**
 * The quota points of one address: most have a few, in slots; an address that stands for many
 * users has the rest in the overflow, of which only the ends are known.
 */
import type { Instant } from '../../db/instant.ts';
import { SLOTS_MAX } from '../../db/tables/ip-limits.ts';
import type { OverflowHit, Slot } from '../../db/tables/ip-limits.ts';
import { isPointLive, measureLimit } from './rolling-window.ts';
import type { LimitState, TimedPoints } from './rolling-window.ts';

/** The points beyond the slots. */
export type Overflow = Readonly<{
  /** How many are live. */
  livePoints: number;
  /** The oldest live ones: enough for every answer that may name a time. */
  oldest: readonly TimedPoints[];
  /** The newest, also when it is dead; null when there never was one. */
  newest: OverflowHit | null;
}>;

/** All that is known of an address. */
export type IpWindow = Readonly<{ slots: readonly Slot[]; overflow: Overflow | null }>;

/** The row to write for a point that is used, or given back. */
export type IpLimitWrite =
  | Readonly<{ kind: 'slot'; slot: Slot }>
  | Readonly<{ kind: 'overflow'; hit: OverflowHit }>;

/** An address that never used a point. */
export const EMPTY_IP_WINDOW: IpWindow
  = Object.freeze({ slots: Object.freeze([]), overflow: null });

/** Whether points of an address may be in the overflow: then they must be read. */
export function mayHaveOverflow(slots: readonly Slot[]): boolean {
  return slots.some(({ slot }) => slot === SLOTS_MAX - 1);
}

/** How many points of the slots are live. */
export function countLivePoints(slots: readonly Slot[], now: Instant): number {
  return slots.reduce((sum, { usedAt, points }) =>
    sum + (isPointLive(usedAt, now) ? points : 0), 0);
}

/** Measures the limit of an address (see measureLimit). */
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

/** An address after a change, and the row to write. */
export type IpLimitChange = Readonly<{ after: IpWindow; write: IpLimitWrite }>;

/**
 * Uses one point of an address now: in the slot of this very time, in one whose time is over, in
 * a new one, or in the overflow.
 */
export function takePoint(window: IpWindow, now: Instant): IpLimitChange {
  const slot = nextSlot(window.slots, now);
  return slot === null ? appendToOverflow(window, now) : changeSlot(window, slot);
}

/**
 * Gives back a point that was used at a time, when it counts still, and fewer than the quota have
 * been given back (schema/0002-ip-rate-limits.sql).
 *
 * @returns null when nothing is given back
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
  // Never before the newest, also when the clock was set back: `number` follows the time.
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
