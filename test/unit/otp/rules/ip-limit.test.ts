import * as fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SLOTS_MAX } from '../../../../src/db/tables/ip-limits.ts';
import type { OverflowHit, Slot } from '../../../../src/db/tables/ip-limits.ts';
import { DEFAULT_POLICY } from '../../../../src/otp/policy/policy.ts';
import { limitedDestination } from '../../../../src/otp/rules/extra-limits.ts';
import {
  limitedRecipient, mayHaveOverflow, measureSlots, EMPTY_IP_WINDOW, takePoint,
} from '../../../../src/otp/rules/ip-limit.ts';
import type { IpWindow, IpLimitWrite } from '../../../../src/otp/rules/ip-limit.ts';
import { windowStart } from '../../../../src/otp/rules/rolling-window.ts';
import { at, NOW, usedAgo } from '../fixtures.ts';

const slotOf = (slots: Slot[]): IpLimitWrite => takePoint({ slots, overflow: null }, NOW).write;

test('a point goes to the slot of its instant, else to an expired slot, else to a new one', () => {
  const same = [{ slot: 4, usedAt: NOW, points: 2, refunded: 1 }, ...usedAgo(1000)];
  const used = { slot: 4, usedAt: NOW, points: 3, refunded: 1 };
  assert.equal(slotOf(same), { kind: 'slot', slot: used });
  const first = { usedAt: NOW, points: 1, refunded: 0 };
  assert.equal(slotOf(usedAgo(10, 900, 20)), { kind: 'slot', slot: { slot: 1, ...first } });
  assert.equal(slotOf(usedAgo(10, 20)), { kind: 'slot', slot: { slot: 2, ...first } });
  assert.equal(slotOf([]), { kind: 'slot', slot: { slot: 0, ...first } });
});

test('a point goes to the overflow when all slots are live', () => {
  const full = usedAgo(...Array.from({ length: SLOTS_MAX }, (_, index) => index + 1));
  assert.is(mayHaveOverflow(full), true);
  assert.is(mayHaveOverflow(full.slice(0, -1)), false);
  assert.equal(slotOf(full), { kind: 'overflow', hit: { usedAt: NOW, points: 1, number: 1 } });
  assert.equal(slotOf([full.at(-1)!]), {
    kind: 'overflow', hit: { usedAt: NOW, points: 1, number: 1 },
  });
});

test('a point after the clock was set back is added to the newest hit', () => {
  const newest = { usedAt: at(5), points: 2, number: 7 };
  const slots = usedAgo(...Array.from({ length: SLOTS_MAX }, () => 1));
  const overflow = { livePoints: 2, oldest: [newest], newest };
  const { write } = takePoint({ slots, overflow }, NOW);
  assert.equal(write, { kind: 'overflow', hit: { usedAt: at(5), points: 3, number: 8 } });
});

/** The tables of one client IP, read and written as requests and the sweep do. */
class Tables {
  readonly slots = new Map<number, Slot>();
  readonly overflow = new Map<number, OverflowHit>();

  write(write: IpLimitWrite): void {
    if (write.kind === 'slot') this.slots.set(write.slot.slot, write.slot);
    else this.overflow.set(write.hit.usedAt, write.hit);
  }

  read(now: number, quota: number): IpWindow {
    const slots = [...this.slots.values()];
    if (!mayHaveOverflow(slots)) return { slots, overflow: null };
    const window = [...this.overflow.values()].sort((a, b) => a.usedAt - b.usedAt);
    const live = window.filter(({ usedAt }) => usedAt > windowStart(now));
    const newest = window.at(-1) ?? null;
    const livePoints = live.length === 0 ? 0 : newest!.number - live[0]!.number + live[0]!.points;
    const inSlots = slots.filter(({ usedAt }) => usedAt > windowStart(now))
      .reduce((sum, { points }) => sum + points, 0);
    const oldest = live.slice(0, Math.max(1, livePoints + inSlots - quota + 1));
    return { slots, overflow: { livePoints, oldest, newest } };
  }

  sweep(now: number): void {
    for (const { slot, usedAt } of this.slots.values()) {
      const kept = slot === SLOTS_MAX - 1 ? 2 : 1;
      if (usedAt <= now - kept * 900_000_000) this.slots.delete(slot);
    }
    for (const { usedAt } of this.overflow.values()) {
      if (usedAt <= windowStart(now)) this.overflow.delete(usedAt);
    }
  }
}

test('no window exceeds the quota, and a point is free when the response says so', () => {
  const gap = fc.oneof(
    { weight: 8, arbitrary: fc.integer({ min: 0, max: 3_000_000 }) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 1_000_000_000 }) },
  );
  const step = fc.record({ gap, quota: fc.integer({ min: 1, max: 90 }), sweeps: fc.boolean() });
  fc.assert(fc.property(fc.array(step, { minLength: 50, maxLength: 400 }), (steps) => {
    const tables = new Tables();
    const used: number[] = [];
    let now = NOW;
    for (const { gap: later, quota, sweeps } of steps) {
      now += later;
      if (sweeps) tables.sweep(now);
      const live = used.filter((time) => time > windowStart(now));
      const limit = { limit: 'address', quota } as const;
      const { remaining, cooldownSeconds } = measureSlots(limit, tables.read(now, quota), now);
      assert.is(remaining, Math.max(0, quota - live.length));
      if (live.length >= quota) {
        const frees = live[live.length - quota]! + 900_000_000;
        assert.is(cooldownSeconds, Math.ceil((frees - now) / 1_000_000));
        continue;
      }
      assert.is(cooldownSeconds, 0);
      const { after, write } = takePoint(tables.read(now, quota), now);
      assert.is(measureSlots(limit, after, now).remaining, quota - live.length - 1);
      tables.write(write);
      used.push(now);
    }
    assert.ok(tables.slots.size <= SLOTS_MAX);
  }), { numRuns: 300 });
});

test('the requests of one batch take points one after the other', () => {
  let window: IpWindow = EMPTY_IP_WINDOW;
  for (let count = 1; count <= 100; count += 1) {
    const { after } = takePoint(window, at(count));
    window = after;
    const limit = { limit: 'address', quota: 1000 } as const;
    const { remaining, resetSeconds } = measureSlots(limit, window, at(count));
    assert.equal([remaining, resetSeconds], [1000 - count, 901 - count]);
  }
  assert.equal([window.slots.length, window.overflow?.livePoints], [SLOTS_MAX, 100 - SLOTS_MAX]);
});

test('a request counts for the address that its message goes to, also in its normal form', () => {
  const policy = { ...DEFAULT_POLICY, destinationLimit: 10 };
  /** [user_id, to, the recipient, the destination] */
  const rows: [string, string | null, string | null, string | null][] = [
    ['a@b.example', null, null, 'b.example'],
    ['A@b.example', null, 'a@b.example', 'b.example'],
    ['a@b.example', 'a@b.example', 'a@b.example', 'b.example'],
    ['U1', 'A+x@b.example', 'a@b.example', 'b.example'],
    ['a@b.example', '+490170123', '+49170123', '+49170'],
    ['+14155550123', '+4900000017', '+4900000017', '+49000'],
    ['U1', null, null, null],
  ];
  for (const [userId, to, recipient, destination] of rows) {
    assert.is(limitedRecipient(policy, { userId, to }), recipient, `${userId} ${to}`);
    assert.is(limitedDestination(policy, { userId, to }), destination, `${userId} ${to}`);
    const none = { ...policy, recipientLimit: null, destinationLimit: null };
    assert.is(limitedRecipient(none, { userId, to }), null);
    assert.is(limitedDestination(none, { userId, to }), null);
  }
});

test.run();
