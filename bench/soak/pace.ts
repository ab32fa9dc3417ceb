/** When requests are sent: as fast as they are answered, or so many a second and no more. */

/** What was due while nobody could be served is not made up for: that would be another load. */
const BACKLOG_MAX_SECONDS = 0.05;
const TICK_MS = 2;

/** The clients of a load wait here for their turn. */
export class Pace {
  #perSecond = Infinity;
  readonly #waiting: (() => void)[] = [];
  #due = 0;
  #tickedAt = performance.now();
  readonly #timer = setInterval(() => this.#tick(), TICK_MS);

  /** Sets the rate, in requests a second. */
  set perSecond(perSecond: number) {
    this.#perSecond = perSecond;
  }

  /** Resolves when it is time to send a request. */
  turn(): Promise<void> {
    if (this.#perSecond === Infinity) return Promise.resolve();
    return new Promise((resolve) => { this.#waiting.push(resolve); });
  }

  /** Lets everybody go, and ends. */
  stop(): void {
    clearInterval(this.#timer);
    this.#perSecond = Infinity;
    for (const go of this.#waiting.splice(0)) go();
  }

  #tick(): void {
    const now = performance.now();
    const due = this.#due + (this.#perSecond * (now - this.#tickedAt)) / 1000;
    this.#tickedAt = now;
    const going = this.#waiting.splice(0, Math.floor(due));
    this.#due = Math.min(due - going.length, this.#perSecond * BACKLOG_MAX_SECONDS);
    for (const go of going) go();
  }
}
