/** The rate of the load: unlimited, or a number of requests per second. */

/**
 * Bounds the requests that are made up for after the service was down: more would multiply the load
 * right after the fault.
 */
const BACKLOG_MAX_SECONDS = 0.05;
const TICK_MS = 2;

/** Releases waiting clients in order, at the given rate. */
export class Pace {
  #perSecond = Infinity;
  readonly #waiting: (() => void)[] = [];
  #due = 0;
  #tickedAt = performance.now();
  readonly #timer = setInterval(() => this.#tick(), TICK_MS);

  set perSecond(perSecond: number) {
    this.#perSecond = perSecond;
  }

  /** Resolves when the next request of a client is due. */
  turn(): Promise<void> {
    if (this.#perSecond === Infinity) return Promise.resolve();
    return new Promise((resolve) => { this.#waiting.push(resolve); });
  }

  /** Stops the timer and releases all clients. */
  stop(): void {
    clearInterval(this.#timer);
    this.#perSecond = Infinity;
    for (const release of this.#waiting.splice(0)) release();
  }

  #tick(): void {
    const now = performance.now();
    const due = this.#due + (this.#perSecond * (now - this.#tickedAt)) / 1000;
    this.#tickedAt = now;
    const released = this.#waiting.splice(0, Math.floor(due));
    this.#due = Math.min(due - released.length, this.#perSecond * BACKLOG_MAX_SECONDS);
    for (const release of released) release();
  }
}
