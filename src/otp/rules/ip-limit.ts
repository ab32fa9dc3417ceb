/**
 * The limits of client IPs, their /48s and recipients: which of them a request counts for, and the
 * points of one subject. A few points fit in slots; a subject that many users share has the rest in
 * the overflow, of which only both ends are read.
 */
import type { Instant } from '../../db/instant.ts';
import { SLOTS_MAX } from '../../db/tables/ip-limits.ts';
import type { OverflowHit, Slot } from '../../db/tables/ip-limits.ts';
import type { Recipient } from '../channels/channel.ts';
import { countedRecipient, normalizeRecipient } from '../channels/recipients.ts';
import type { ClientAddress } from '../outcomes.ts';
import type { NamedQuota, Policy } from '../policy/policy.ts';
import { isPointLive, measureLimit } from './rolling-window.ts';
import type { LimitState, TimedPoints } from './rolling-window.ts';

/**
 * A limit that counts in slots, and its subject there: a client IP, the /48 of one, or the digest
 * of a recipient. All purposes share the count.
 */
export type SlotLimit = NamedQuota & Readonly<{ subject: string }>;

export const NO_SLOT_LIMITS: readonly SlotLimit[] = Object.freeze([]);

/** What a request counts for. The recipient is null when it is not counted. */
type Counted = ClientAddress & Readonly<{ recipient: string | null }>;

/** The limits in slots that count a granted request. */
export function slotLimitsForRequest(
  { addressLimit, netLimit, recipientLimit }: Policy,
  { clientIp, clientNet48, recipient }: Counted,
): readonly SlotLimit[] {
  const limits: SlotLimit[] = [];
  if (clientIp !== null) limits.push({ limit: 'address', subject: clientIp, quota: addressLimit });
  if (clientNet48 !== null && netLimit !== null) {
    limits.push({ limit: 'net48', subject: clientNet48, quota: netLimit });
  }
  if (recipient !== null && recipientLimit !== null) {
    limits.push({ limit: 'recipient', subject: recipient, quota: recipientLimit });
  }
  return limits;
}

/** Begins the subject of a recipient; no address begins with it. */
export const RECIPIENT_PREFIX = 'recipient:';

/** The quota that a subject in slots has, for a refund. */
export function quotaOfSubject(policy: Policy, subject: string): number {
  if (subject.startsWith(RECIPIENT_PREFIX)) return policy.recipientLimit ?? Infinity;
  return subject.endsWith('/48') ? policy.netLimit ?? Infinity : policy.addressLimit;
}

/**
 * The recipient by which a request counts; null when none is counted. A `to` always counts: the
 * limit of the user says nothing of it.
 */
export function limitedRecipient(policy: Policy, { userId, to }: Recipient): string | null {
  if (policy.recipientLimit === null) return null;
  return to ? normalizeRecipient(to) : countedRecipient(userId);
}

/** The limits whose names a response can give before the user and the purpose are known. */
export function limitsOfClient(policy: Policy, client: ClientAddress): readonly NamedQuota[] {
  const { userLimit, userDailyLimit, shadow } = policy;
  return [
    { limit: 'user' as const, quota: userLimit },
    ...slotLimitsForRequest(policy, { ...client, recipient: null }),
    { limit: 'user_daily' as const, quota: userDailyLimit ?? Infinity },
  ].filter(({ limit, quota }) => quota !== Infinity && !shadow.has(limit));
}

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

/** A limit that counts in slots, with the points that it has counted. */
export type MeasuredSlots = Readonly<{ limit: SlotLimit; window: IpWindow }>;

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

export function measureSlots(
  limit: NamedQuota,
  { slots, overflow }: IpWindow,
  now: Instant,
): LimitState {
  if (overflow === null) return measureLimit(limit, slots, now);
  const listed = overflow.oldest.reduce((sum, { points }) => sum + points, 0);
  const taken = [...slots, ...overflow.oldest];
  return measureLimit(limit, taken, now, overflow.livePoints - listed);
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
