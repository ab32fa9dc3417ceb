/** Limits the time of one sequential piece of work, and can abort the pending step. */
export class Deadline {
  #isOver = false;
  #onEnd: (() => void) | null = null;
  readonly #timer: NodeJS.Timeout;

  constructor(milliseconds: number) {
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
