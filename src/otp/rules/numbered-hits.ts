/**
 * What a limit beyond the contract's two has counted for one subject: hits that are numbered in
 * their order, so that one of them tells whether there is room for one more.
 */
import { addSeconds, secondsUntil } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { Hit } from '../../db/tables/limit-hits.ts';

/** The hits of one subject. */
export type HitWindow = Readonly<{
  /** The number of the newest hit; null: there never was one, or none that counts. */
  newest: number | null;
  newestAt: Instant;
  /** Those that may have to be looked at, by their numbers. */
  hits: readonly Hit[];
  /** Those that this transaction adds, all at one time. */
  added: Hit | null;
}>;

/** A subject without hits. */
export const EMPTY_HIT_WINDOW: HitWindow = Object.freeze({
  newest: null, newestAt: 0, hits: Object.freeze([]), added: null,
});

/**
 * How long until one more hit is let through.
 *
 * @param quota how many hits may count at a time; Infinity for any number
 * @param windowSeconds for how long a hit counts
 * @returns whole seconds, rounded up; 0 when it is now
 */
export function cooldownSeconds(
  { newest, hits, added }: HitWindow,
  quota: number,
  windowSeconds: number,
  now: Instant,
): number {
  if (newest === null || quota === Infinity) return 0;
  const number = newest - quota + 1;
  const hit = hits.find((one) => one.number >= number) ?? added;
  // What is not there any more counts no more.
  if (hit === null || hit.number - hit.points >= number) return 0;
  return Math.max(0, secondsUntil(now, addSeconds(hit.usedAt, windowSeconds)));
}

/** Makes one hit now. */
export function addHit(window: HitWindow, now: Instant): HitWindow & { added: Hit } {
  // Never before the newest, also when the clock was set back: numbers follow the time.
  const usedAt = window.added?.usedAt ?? Math.max(now, window.newestAt);
  const newest = (window.newest ?? now) + 1;
  const added = { number: newest, usedAt, points: (window.added?.points ?? 0) + 1 };
  return { newest, newestAt: usedAt, hits: window.hits, added };
}

/** Uses by their numbers, each once. */
export function sortHits<T extends Hit>(hits: readonly T[]): T[] {
  const sorted = [...hits].sort((a, b) => a.number - b.number);
  return sorted.filter(({ number }, index) => sorted[index - 1]?.number !== number);
}
