/**
 * What a limit beyond the contract's two has counted for one subject: uses that are numbered in
 * their order, so that one of them tells whether there is room for one more.
 */
import { addSeconds, secondsUntil } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { Hit } from '../../db/tables/limit-hits.ts';

/** The uses of one subject. */
export type HitWindow = Readonly<{
  /** The number of the newest use; null: there never was one, or none that counts. */
  newest: number | null;
  newestAt: Instant;
  /** Those that may have to be looked at, by their numbers. */
  uses: readonly Hit[];
  /** Those that this transaction adds, all at one time. */
  added: Hit | null;
}>;

/** A subject without uses. */
export const EMPTY_HIT_WINDOW: HitWindow = Object.freeze({
  newest: null, newestAt: 0, uses: Object.freeze([]), added: null,
});

/**
 * How long until one more use is let through.
 *
 * @param quota how many uses may count at a time; Infinity for any number
 * @param windowSeconds for how long a use counts
 * @returns whole seconds, rounded up; 0 when it is now
 */
export function cooldownOf(
  { newest, uses, added }: HitWindow,
  quota: number,
  windowSeconds: number,
  now: Instant,
): number {
  if (newest === null || quota === Infinity) return 0;
  const number = newest - quota + 1;
  const use = uses.find((one) => one.number >= number) ?? added;
  // What is not there any more counts no more.
  if (use === null || use.number - use.points >= number) return 0;
  return Math.max(0, secondsUntil(now, addSeconds(use.usedAt, windowSeconds)));
}

/** Makes one use now. */
export function addHit(tally: HitWindow, now: Instant): HitWindow & { added: Hit } {
  // Never before the newest, also when the clock was set back: numbers follow the time.
  const usedAt = tally.added?.usedAt ?? Math.max(now, tally.newestAt);
  const newest = (tally.newest ?? now) + 1;
  const added = { number: newest, usedAt, points: (tally.added?.points ?? 0) + 1 };
  return { newest, newestAt: usedAt, uses: tally.uses, added };
}

/** Uses by their numbers, each once. */
export function inOrder<T extends Hit>(uses: readonly T[]): T[] {
  const sorted = [...uses].sort((a, b) => a.number - b.number);
  return sorted.filter(({ number }, index) => sorted[index - 1]?.number !== number);
}
