import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { measureLimit } from '../../../../src/otp/rules/rolling-window.ts';
import type { TimedPoints } from '../../../../src/otp/rules/rolling-window.ts';
import { at, NOW, usedAgo } from '../fixtures.ts';

const MICROSECOND = 0.000001;

/** [case, points, quota, remaining, reset, cooldown] */
const CASES: [string, TimedPoints[], number, number, number, number][] = [
  ['no point', [], 3, 3, 900, 0],
  ['a point taken now', usedAgo(0), 3, 2, 900, 0],
  ['two points', usedAgo(100, 50), 3, 1, 800, 0],
  ['a full window', usedAgo(720, 540, 410), 3, 0, 180, 180],
  ['a full window in any order of slots', usedAgo(410, 720, 540), 3, 0, 180, 180],
  ['a point a microsecond before it is free', usedAgo(900 - MICROSECOND, 1, 1), 3, 0, 1, 1],
  ['a point at the instant it is free', usedAgo(900, 1, 1), 3, 1, 899, 0],
  ['a point a second and a microsecond before it is free',
    usedAgo(899 - MICROSECOND, 1, 1), 3, 0, 2, 2],
  ['a point exactly one second before it is free', usedAgo(899, 1, 1), 3, 0, 1, 1],
  ['expired points', usedAgo(2000, 1000, 901), 3, 3, 900, 0],
  ['several points of one instant', [{ usedAt: at(-100), points: 3 }], 3, 0, 800, 800],
  ['a refunded point, which neither counts nor gives a time,',
    [{ usedAt: at(-800), points: 0 }, ...usedAgo(100, 50)], 3, 1, 800, 0],
  ['a lowered limit, which waits for several points,', usedAgo(800, 700, 600, 500), 2, 0, 100, 300],
  ['a lowered limit and several points of one instant', [
    { usedAt: at(-800), points: 3 }, { usedAt: at(-100), points: 1 },
  ], 2, 0, 100, 100],
  ['a limit lowered to one', usedAgo(800, 700, 600), 1, 0, 100, 300],
];

for (const [what, slots, quota, remaining, resetSeconds, cooldownSeconds] of CASES) {
  test(`measureLimit measures ${what}`, () => {
    const state = measureLimit({ limit: 'user', quota }, slots, NOW);
    assert.equal(state, { limit: 'user', quota, remaining, resetSeconds, cooldownSeconds });
  });
}

test('unlisted points count and are never the oldest', () => {
  const limit = { limit: 'address', quota: 10 } as const;
  const { remaining, resetSeconds, cooldownSeconds }
    = measureLimit(limit, usedAgo(800, 700), NOW, 8);
  assert.equal([remaining, resetSeconds, cooldownSeconds], [0, 100, 100]);
  assert.is(measureLimit(limit, usedAgo(800), NOW, 8).remaining, 1);
});

test.run();
