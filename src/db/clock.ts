/**
 * The clock of the database, and deadlines. Transactions read the clock for every decision. Between
 * two readings an estimate decides only when to send a message and when to query again.
 */
import { MICROSECONDS_PER_MILLISECOND, parseInstant } from './instant.ts';
import type { Instant } from './instant.ts';
import type { Query } from './query.ts';

/**
 * Every request is answered this long after its arrival; the rest of the 3 s is for a busy event
 * loop and the way to the client.
 */
export const ANSWER_MS = 2600;

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

/** Limits the time of one sequential piece of work, and can abort the pending step. */
export class Deadline {
  #isOver = false;
  #onEnd: (() => void) | null = null;
  readonly #timer: NodeJS.Timeout;

  constructor(milliseconds: number) {
    this.#isOver = milliseconds <= 0;
    this.#timer = setTimeout(() => {
      this.#isOver = true;
      this.#onEnd?.();
    }, milliseconds);
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /**
   * Registers the one callback to run at the deadline; runs it at once if the deadline has passed.
   *
   * @returns a function that removes the callback
   */
  onEnd(callback: () => void): () => void {
    if (this.#isOver) callback();
    else this.#onEnd = callback;
    return () => {
      this.#onEnd = null;
    };
  }

  /** Stops the timer: the work finished in time. */
  clear(): void {
    clearTimeout(this.#timer);
  }
}
