/**
 * The database's clock between two readings. It decides nothing that the database could be asked:
 * only when to send, and when to ask again.
 */
import { MICROSECONDS_PER_MILLISECOND, parseInstant } from './instant.ts';
import type { Instant } from './instant.ts';
import type { Query } from './query.ts';

/** Milliseconds of a clock that only runs: it has no date, and nobody can set it. */
export function monotonicMs(): number {
  return performance.now();
}

/** A reading of the database's clock. */
export class EstimatedClock {
  readonly #readAt: Instant;
  readonly #startedAtMs: number;

  /**
   * @param readAt what the database said
   * @param startedAtMs elapsedMs() from before it was asked, so that this clock is never behind
   */
  constructor(readAt: Instant, startedAtMs: number) {
    this.#readAt = readAt;
    this.#startedAtMs = startedAtMs;
  }

  /** The time now: never before the database's, and after it by less than the reading took. */
  now(): Instant {
    const elapsedMs = monotonicMs() - this.#startedAtMs;
    return this.#readAt + Math.round(elapsedMs * MICROSECONDS_PER_MILLISECOND);
  }
}

/**
 * Reads the clock. Must come after the locks of the transaction, in the order of its statements:
 * NOW(6) is the time at which its statement started.
 */
export const READ_CLOCK: Query<Instant> = Object.freeze({
  name: 'clock.read',
  sql: 'SELECT NOW(6) AS now',
  values: [],
  read: (rows) => parseInstant(rows[0]?.now as string),
});
