/** Detects a crash loop of a process that is restarted whenever it dies. */

const WINDOW_MS = 60_000;

/** Counts deaths within the last minute. Above the bound, restarting only hides the cause. */
export class CrashLoop {
  readonly #deathsMax: number;
  #deaths = 0;

  constructor(deathsMax: number) {
    this.#deathsMax = deathsMax;
  }

  /** Returns true when the bound is exceeded. */
  recordDeath(): boolean {
    this.#deaths += 1;
    setTimeout(() => { this.#deaths -= 1; }, WINDOW_MS).unref();
    return this.#deaths > this.#deathsMax;
  }
}
