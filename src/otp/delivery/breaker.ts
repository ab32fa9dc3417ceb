/**
 * A channel that keeps failing is paused, so that a provider that is down is not asked by every
 * message; after a while one message tries it (the circuit breaker pattern).
 */

/** So many failures in a row pause a channel. */
const FAILURES_MAX = 5;
const FIRST_PAUSE_MS = 1000;
const PAUSE_MAX_MS = 30_000;

/** One attempt, between its begin and its end. */
export type Attempt = Readonly<{ generation: number; isProbe: boolean }>;

/** The breaker of one channel. All times are milliseconds of one running clock. */
export class Breaker {
  #failures = 0;
  #pauseMs = 0;
  #pausedUntilMs: number | null = null;
  #isProbing = false;
  /** Attempts that began before the pause say nothing about the time after it. */
  #generation = 0;

  /** Whether an attempt may begin. While the channel is tried out, one at a time. */
  mayBegin(nowMs: number): boolean {
    if (this.#pausedUntilMs === null) return true;
    return !this.#isProbing && this.#pausedUntilMs <= nowMs;
  }

  /** Milliseconds until it is worth asking again; 0 when it is now, or one tries it out. */
  readyInMs(nowMs: number): number {
    return Math.max(0, (this.#pausedUntilMs ?? nowMs) - nowMs);
  }

  /** Begins an attempt that may begin. */
  begin(): Attempt {
    const isProbe = this.#pausedUntilMs !== null;
    this.#isProbing ||= isProbe;
    return { generation: this.#generation, isProbe };
  }

  /**
   * Ends an attempt. A refusal of one message is no failure of the channel.
   *
   * @returns what it changed: the channel is paused now, or works again, or neither
   */
  end(attempt: Attempt, hasFailed: boolean, nowMs: number): 'paused' | 'resumed' | null {
    if (attempt.isProbe) this.#isProbing = false;
    else if (attempt.generation !== this.#generation) return null;
    if (!hasFailed) return this.#resume();
    this.#failures += 1;
    if (!attempt.isProbe && this.#failures < FAILURES_MAX) return null;
    return this.#pause(nowMs);
  }

  #resume(): 'resumed' | null {
    const wasPaused = this.#pausedUntilMs !== null;
    this.#failures = 0;
    this.#pauseMs = 0;
    this.#pausedUntilMs = null;
    return wasPaused ? 'resumed' : null;
  }

  #pause(nowMs: number): 'paused' | null {
    const wasPaused = this.#pausedUntilMs !== null;
    this.#pauseMs = Math.min(PAUSE_MAX_MS, Math.max(FIRST_PAUSE_MS, this.#pauseMs * 2));
    this.#pausedUntilMs = nowMs + this.#pauseMs;
    this.#generation += 1;
    return wasPaused ? null : 'paused';
  }
}
