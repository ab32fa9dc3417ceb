/**
 * The rolling window of a limit for one subject. Hits are numbered in order, so that a
 * single hit tells whether the limit has a free point.
 */
import { addSeconds, secondsUntil } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { Hit } from '../../db/tables/limit-hits.ts';

export type HitWindow = Readonly<{
  /** The number of the newest hit; null when there is none. */
  newest: number | null;
  newestAt: Instant;
  /** The stored hits that decisions may need, in the order of their numbers, and the first live. */
  hits: readonly Hit[];
  /** The hits of this transaction, which share one instant. */
  added: Hit | null;
}>;

export const EMPTY_HIT_WINDOW: HitWindow = Object.freeze({
  newest: null, newestAt: 0, hits: Object.freeze([]), added: null,
});

/** Whole seconds until the limit has a free point, rounded up; 0 when it has one now. */
export function cooldownSeconds(
  { newest, hits, added }: HitWindow,
  quota: number,
  windowSeconds: number,
  now: Instant,
): number {
  if (newest === null || quota === Infinity) return 0;
  const number = newest - quota + 1;
  const hit = hits.find((one) => one.number >= number) ?? added;
  // A hit without a row has expired.
  if (hit === null || hit.number - hit.points >= number) return 0;
  return Math.max(0, secondsUntil(now, addSeconds(hit.usedAt, windowSeconds)));
}

/** The live points, and the oldest hit among them; null when no point is live. */
export function listLive(
  { newest, hits, added }: HitWindow,
  windowSeconds: number,
  now: Instant,
): Readonly<{ points: number; oldest: Hit | null }> {
  const stored = hits.find(({ usedAt }) => addSeconds(usedAt, windowSeconds) > now);
  const oldest = stored ?? added;
  if (newest === null || oldest === null) return NO_LIVE_HITS;
  return { points: newest - oldest.number + oldest.points, oldest };
}

const NO_LIVE_HITS = Object.freeze({ points: 0, oldest: null });

export function addHit(window: HitWindow, now: Instant): HitWindow & { added: Hit } {
  // Not before the newest hit, even if the clock was set back: numbers grow with time.
  const usedAt = window.added?.usedAt ?? Math.max(now, window.newestAt);
  const newest = (window.newest ?? now) + 1;
  const added = { number: newest, usedAt, points: (window.added?.points ?? 0) + 1 };
  return { newest, newestAt: usedAt, hits: window.hits, added };
}

/** Hits in the order of their numbers, each once: the queries overlap. */
export function sortHits<T extends Hit>(hits: readonly T[]): T[] {
  const sorted = [...hits].sort((a, b) => a.number - b.number);
  return sorted.filter(({ number }, index) => sorted[index - 1]?.number !== number);
}
