/** Work that many may ask for, such as by signals: it runs once at a time. */

/**
 * Any number of requests that come while the work runs lead to one more run, for what it has seen
 * may be old by then. Requests that come before it may begin are kept.
 */
export class OneAtATime {
  #work: (() => Promise<void>) | null = null;
  #isRunning = false;
  #isWanted = false;

  /**
   * From now on requests are met; those that came before, at once.
   *
   * @param work must not reject
   */
  begin(work: () => Promise<void>): void {
    this.#work = work;
    void this.#run();
  }

  /** Asks for a run. */
  request(): void {
    this.#isWanted = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    if (this.#work === null || this.#isRunning) return;
    this.#isRunning = true;
    while (this.#isWanted) {
      this.#isWanted = false;
      await this.#work();
    }
    this.#isRunning = false;
  }
}
