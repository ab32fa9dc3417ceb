import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { measureLimit } from '../../../../src/otp/rules/rolling-window.ts';
import type { TimedPoints } from '../../../../src/otp/rules/rolling-window.ts';
import { at, NOW, usedAgo } from '../fixtures.ts';

const MICROSECOND = 0.000001;

/** [what, slots, quota, remaining, reset, cooldown] */
const CASES: [string, TimedPoints[], number, number, number, number][] = [
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
  ['several points of one time', [{ usedAt: at(-100), points: 3 }], 3, 0, 800, 800],
  ['what was given back neither counts nor names a time',
    [{ usedAt: at(-800), points: 0 }, ...usedAgo(100, 50)], 3, 1, 800, 0],
  ['a limit that was lowered waits for several', usedAgo(800, 700, 600, 500), 2, 0, 100, 300],
  ['a lowered limit and a group', [
    { usedAt: at(-800), points: 3 }, { usedAt: at(-100), points: 1 },
  ], 2, 0, 100, 100],
  ['a lowered limit down to one', usedAgo(800, 700, 600), 1, 0, 100, 300],
];

for (const [what, slots, quota, remaining, resetSeconds, cooldownSeconds] of CASES) {
  test(`measures: ${what}`, () => {
    const state = measureLimit(slots, NOW, quota);
    assert.equal(state, {
      view: { quota, remaining, resetSeconds },
      cooldownSeconds,
    });
  });
}

test('unlisted points count, and are never the oldest', () => {
  const { view, cooldownSeconds } = measureLimit(usedAgo(800, 700), NOW, 10, 8);
  assert.equal([view.remaining, view.resetSeconds, cooldownSeconds], [0, 100, 100]);
  assert.is(measureLimit(usedAgo(800), NOW, 10, 8).view.remaining, 1);
});

test.run();
