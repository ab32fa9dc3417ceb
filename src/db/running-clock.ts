/**
 * The database's clock between two readings. It decides nothing that the database could be asked:
 * only when to send, and when to ask again.
 */
import type { Instant } from './instant.ts';

/** Milliseconds of a clock that only runs: it has no date, and nobody can set it. */
export function elapsedMs(): number {
  return performance.now();
}

/** A reading of the database's clock. */
export class RunningClock {
  readonly #readAt: Instant;
  readonly #askedAtMs: number;

  /**
   * @param readAt what the database said
   * @param askedAtMs elapsedMs() from before it was asked, so that this clock is never behind
   */
  constructor(readAt: Instant, askedAtMs: number) {
    this.#readAt = readAt;
    this.#askedAtMs = askedAtMs;
  }

  /** The time now: never before the database's, and after it by less than the reading took. */
  now(): Instant {
    return this.#readAt + Math.round((elapsedMs() - this.#askedAtMs) * 1000);
  }
}
