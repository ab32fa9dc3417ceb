/**
 * The clock of the database. Transactions read it for every decision. Between two readings an
 * estimate decides when to send a message and when to query again, and nothing else.
 */
import { MICROSECONDS_PER_MILLISECOND, parseInstant } from './instant.ts';
import type { Instant } from './instant.ts';
import type { Query } from './query.ts';

/** Milliseconds of a clock that has no date and cannot be set. */
export function monotonicMs(): number {
  return performance.now();
}

/** The database time, estimated from one reading. */
export class EstimatedClock {
  readonly #readAt: Instant;
  readonly #startedAtMs: number;

  /**
   * @param startedAtMs monotonicMs() from before the query, so that the estimate is never behind
   */
  constructor(readAt: Instant, startedAtMs: number) {
    this.#readAt = readAt;
    this.#startedAtMs = startedAtMs;
  }

  /** Never earlier than the database time, and later by less than the reading took. */
  now(): Instant {
    const elapsedMs = monotonicMs() - this.#startedAtMs;
    return this.#readAt + Math.round(elapsedMs * MICROSECONDS_PER_MILLISECOND);
  }
}

/**
 * Reads the clock. NOW(6) is the start time of its statement, so a transaction runs this statement
 * after the ones that take its locks.
 */
export const READ_CLOCK: Query<Instant> = Object.freeze({
  name: 'clock.read',
  sql: 'SELECT NOW(6) AS now',
  values: [],
  read: (rows) => parseInstant(rows[0]?.now as string),
});
