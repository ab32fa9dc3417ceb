/** A bound on the time of one piece of work, with the means to break off what is under way. */
export class Deadline {
  #isOver = false;
  #onEnd: (() => void) | null = null;
  readonly #timer: NodeJS.Timeout;

  /** @param milliseconds from now until the deadline */
  constructor(milliseconds: number) {
    this.#timer = setTimeout(() => {
      this.#isOver = true;
      this.#onEnd?.();
    }, milliseconds);
  }

  /** True once the time is over. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /**
   * Says what to break off when the time is over, at once when it is: one thing at a time, for
   * work is sequential.
   *
   * @returns a function that takes it back
   */
  onEnd(callback: () => void): () => void {
    if (this.#isOver) callback();
    else this.#onEnd = callback;
    return () => {
      this.#onEnd = null;
    };
  }

  /** Ends the waiting; the work was done in time. */
  clear(): void {
    clearTimeout(this.#timer);
  }
}
