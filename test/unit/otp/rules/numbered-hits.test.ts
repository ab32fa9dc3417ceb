import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addHit, cooldownSeconds, EMPTY_HIT_WINDOW } from '../../../../src/otp/rules/numbered-hits.ts';
import type { HitWindow } from '../../../../src/otp/rules/numbered-hits.ts';
import { at, NOW } from '../fixtures.ts';

/** A subject with uses at seconds from NOW, one each, numbered from 101 on. */
function usedAt(...seconds: number[]): HitWindow {
  const hits = seconds.map((second, index) =>
    ({ number: 101 + index, usedAt: at(second), points: 1 }));
  return { newest: 100 + seconds.length, newestAt: at(seconds.at(-1)!), hits, added: null };
}

/** [what, tally, quota, whole seconds to wait] of a window of an hour */
const ROWS: [string, HitWindow, number, number][] = [
  ['nothing is known', EMPTY_HIT_WINDOW, 1, 0],
  ['there is room', usedAt(-10, -5), 3, 0],
  ['no room', usedAt(-10, -5), 2, 3590],
  ['a smaller quota waits for a later one', usedAt(-10, -5), 1, 3595],
  ['a microsecond before the oldest is free', usedAt(-3599.999999, -5), 2, 1],
  ['when it is', usedAt(-3600, -5), 2, 0],
  ['the decisive one was erased', { ...usedAt(-10, -5), newest: 200, newestAt: NOW }, 150, 0],
  ['any number', usedAt(-10, -5), Infinity, 0],
  ['one time of several uses holds the one that counts',
    { ...usedAt(-10), newest: 110, hits: [{ number: 110, usedAt: at(-10), points: 5 }] }, 5, 3590],
  ['one time of several uses begins after it',
    { ...usedAt(-10), newest: 110, hits: [{ number: 110, usedAt: at(-10), points: 5 }] }, 6, 0],
];

for (const [what, tally, quota, seconds] of ROWS) {
  test(`${what}: ${seconds} s`, () => {
    assert.is(cooldownSeconds(tally, quota, 3600, NOW), seconds);
  });
}

test('uses of one transaction are one row, and count at once', () => {
  const first = addHit(EMPTY_HIT_WINDOW, NOW);
  assert.equal(first.added, { number: NOW + 1, usedAt: NOW, points: 1 });
  const third = addHit(addHit(first, NOW), NOW);
  assert.equal(third.added, { number: NOW + 3, usedAt: NOW, points: 3 });
  assert.is(cooldownSeconds(third, 4, 3600, NOW), 0);
  assert.is(cooldownSeconds(third, 3, 3600, NOW), 3600);
  assert.is(cooldownSeconds(third, 1, 3600, NOW), 3600);
});

test('uses that are added come after those that are there, at no earlier time', () => {
  const later = usedAt(5);
  const next = addHit(later, NOW);
  assert.equal(next.added, { number: 102, usedAt: at(5), points: 1 });
  assert.is(next.newestAt, at(5));
  const spent = addHit(usedAt(-3599), NOW);
  assert.is(cooldownSeconds(spent, 2, 3600, NOW), 1);
  assert.is(cooldownSeconds(spent, 2, 3600, at(1)), 0);
});

test.run();
