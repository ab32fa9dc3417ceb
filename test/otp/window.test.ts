import * as fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Slot } from '../../src/db/ip-rate-limits.ts';
import { measureLimit, replaceSlot, usePoint } from '../../src/otp/window.ts';
import { at, NOW, usedAgo } from './rows.ts';

const MICROSECOND = 0.000001;

/** [what, slots, quota, remaining, reset, cooldown] */
const CASES: [string, Slot[], number, number, number, number][] = [
  ['nothing used', [], 3, 3, 900, 0],
  ['one used just now', usedAgo(0), 3, 2, 900, 0],
  ['two used', usedAgo(100, 50), 3, 1, 800, 0],
  ['all used', usedAgo(720, 540, 410), 3, 0, 180, 180],
  ['in any order of slots', usedAgo(410, 720, 540), 3, 0, 180, 180],
  ['a microsecond before it is free', usedAgo(900 - MICROSECOND, 1, 1), 3, 0, 1, 1],
  ['exactly when it is free', usedAgo(900, 1, 1), 3, 1, 899, 0],
  ['a second and a microsecond before', usedAgo(899 - MICROSECOND, 1, 1), 3, 0, 2, 2],
  ['exactly one second before', usedAgo(899, 1, 1), 3, 0, 1, 1],
  ['old points do not count', usedAgo(2000, 1000, 901), 3, 3, 900, 0],
  ['several points of one time', [{ slot: 0, usedAt: at(-100), points: 3 }], 3, 0, 800, 800],
  ['a limit that was lowered waits for several', usedAgo(800, 700, 600, 500), 2, 0, 100, 300],
  ['a lowered limit and a group', [
    { slot: 0, usedAt: at(-800), points: 3 }, { slot: 1, usedAt: at(-100), points: 1 },
  ], 2, 0, 100, 100],
  ['a lowered limit down to one', usedAgo(800, 700, 600), 1, 0, 100, 300],
];

for (const [what, slots, quota, remaining, resetSeconds, cooldownSeconds] of CASES) {
  test(`measures: ${what}`, () => {
    const state = measureLimit(slots, NOW, quota);
    assert.equal(state, {
      view: { quota, windowSeconds: 900, remaining, resetSeconds },
      cooldownSeconds,
    });
  });
}

test('uses the slot of this very time, then a free one, then a new one', () => {
  const same = usePoint([{ slot: 4, usedAt: NOW, points: 2 }, ...usedAgo(1000)], NOW);
  assert.equal(same, { slot: 4, usedAt: NOW, points: 3 });
  assert.equal(usePoint(usedAgo(10, 900, 20), NOW), { slot: 1, usedAt: NOW, points: 1 });
  assert.equal(usePoint(usedAgo(10, 20), NOW), { slot: 2, usedAt: NOW, points: 1 });
  assert.equal(usePoint([], NOW), { slot: 0, usedAt: NOW, points: 1 });
});

test('never more than the quota in any window, and free exactly when it says', () => {
  const steps = fc.array(fc.integer({ min: 0, max: 500_000_000 }), { maxLength: 40 });
  fc.assert(fc.property(fc.integer({ min: 1, max: 6 }), steps, (quota, gaps) => {
    let slots: Slot[] = [];
    let now = NOW;
    const used: number[] = [];
    for (const gap of gaps) {
      now += gap;
      const live = used.filter((time) => time > now - 900_000_000).length;
      const { view, cooldownSeconds } = measureLimit(slots, now, quota);
      assert.is(view.remaining, quota - live);
      assert.is(cooldownSeconds === 0, live < quota);
      if (cooldownSeconds > 0) {
        const later = now + cooldownSeconds * 1_000_000;
        assert.is(measureLimit(slots, later, quota).cooldownSeconds, 0);
        assert.ok(measureLimit(slots, later - 1_000_000, quota).cooldownSeconds > 0);
        continue;
      }
      slots = replaceSlot(slots, usePoint(slots, now));
      used.push(now);
    }
    assert.ok(slots.length <= quota);
  }), { numRuns: 2000 });
});

test.run();
