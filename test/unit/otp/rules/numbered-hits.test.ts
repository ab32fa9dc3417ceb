import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  addHit, cooldownSeconds, EMPTY_HIT_WINDOW, listLive,
} from '../../../../src/otp/rules/numbered-hits.ts';
import type { HitWindow } from '../../../../src/otp/rules/numbered-hits.ts';
import { at, NOW } from '../fixtures.ts';

/** A window with hits at the given seconds from NOW, numbered from 101. */
function usedAt(...seconds: number[]): HitWindow {
  const hits = seconds.map((second, index) =>
    ({ number: 101 + index, usedAt: at(second), points: 1 }));
  return { newest: 100 + seconds.length, newestAt: at(seconds.at(-1)!), hits, added: null };
}

/** [case, window, quota, whole seconds until a point is free] for one hour */
const ROWS: [string, HitWindow, number, number][] = [
  ['an empty window', EMPTY_HIT_WINDOW, 1, 0],
  ['a window with a free point', usedAt(-10, -5), 3, 0],
  ['a full window', usedAt(-10, -5), 2, 3590],
  ['a smaller quota, which depends on a later hit,', usedAt(-10, -5), 1, 3595],
  ['a full window a microsecond before its oldest hit expires', usedAt(-3599.999999, -5), 2, 1],
  ['a full window when its oldest hit expires', usedAt(-3600, -5), 2, 0],
  ['a window whose decisive hit was deleted',
    { ...usedAt(-10, -5), newest: 200, newestAt: NOW }, 150, 0],
  ['a window without a quota', usedAt(-10, -5), Infinity, 0],
  ['a hit of several points that includes the decisive one',
    { ...usedAt(-10), newest: 110, hits: [{ number: 110, usedAt: at(-10), points: 5 }] }, 5, 3590],
  ['a hit of several points after the decisive one',
    { ...usedAt(-10), newest: 110, hits: [{ number: 110, usedAt: at(-10), points: 5 }] }, 6, 0],
];

for (const [what, window, quota, seconds] of ROWS) {
  test(`${what} has a free point after ${seconds} s`, () => {
    assert.is(cooldownSeconds(window, quota, 3600, NOW), seconds);
  });
}

/** [case, window, live points, seconds from NOW to the oldest live hit] for one hour */
const LIVE: [string, HitWindow, number, number | null][] = [
  ['an empty window', EMPTY_HIT_WINDOW, 0, null],
  ['a window of live hits', usedAt(-10, -5), 2, -10],
  ['a window with expired hits', usedAt(-4000, -3600, -3599.999999, -5), 2, -3599.999999],
  ['a window of expired hits', usedAt(-4000, -3600), 0, null],
  ['a window of which some hits were not read',
    { ...usedAt(-4000, -10), newest: 200, newestAt: NOW }, 99, -10],
  ['hits of several points',
    { ...usedAt(-10), newest: 112, hits: [{ number: 110, usedAt: at(-10), points: 5 }] }, 7, -10],
  ['hits of this transaction alone', addHit(addHit(EMPTY_HIT_WINDOW, NOW), NOW), 2, 0],
  ['hits of this transaction after expired ones', addHit(usedAt(-3600), NOW), 1, 0],
  ['hits of this transaction after live ones', addHit(usedAt(-20, -10), NOW), 3, -20],
];

for (const [what, window, points, oldest] of LIVE) {
  test(`${what} has ${points} live points`, () => {
    const live = listLive(window, 3600, NOW);
    assert.is(live.points, points);
    assert.is(live.oldest?.usedAt ?? null, oldest === null ? null : at(oldest));
  });
}

test('the points of one transaction are one hit and count at once', () => {
  const first = addHit(EMPTY_HIT_WINDOW, NOW);
  assert.equal(first.added, { number: NOW + 1, usedAt: NOW, points: 1 });
  const third = addHit(addHit(first, NOW), NOW);
  assert.equal(third.added, { number: NOW + 3, usedAt: NOW, points: 3 });
  assert.is(cooldownSeconds(third, 4, 3600, NOW), 0);
  assert.is(cooldownSeconds(third, 3, 3600, NOW), 3600);
  assert.is(cooldownSeconds(third, 1, 3600, NOW), 3600);
});

test('an added hit follows the stored hits and is not earlier', () => {
  const later = usedAt(5);
  const next = addHit(later, NOW);
  assert.equal(next.added, { number: 102, usedAt: at(5), points: 1 });
  assert.is(next.newestAt, at(5));
  const spent = addHit(usedAt(-3599), NOW);
  assert.is(cooldownSeconds(spent, 2, 3600, NOW), 1);
  assert.is(cooldownSeconds(spent, 2, 3600, at(1)), 0);
});

test.run();
