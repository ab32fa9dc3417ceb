/** Detects a crash loop of a process that is restarted whenever it dies. */

/** The window in which deaths are counted. */
const WINDOW_MS = 60_000;

/** Counts deaths within the last minute. Above the bound, restarting only hides the fault. */
export class CrashLoop {
  readonly #deathsMax: number;
  #deaths = 0;

  /** @param deathsMax how many deaths within a minute are tolerated */
  constructor(deathsMax: number) {
    this.#deathsMax = deathsMax;
  }

  /** Records a death. True when the bound is exceeded. */
  recordDeath(): boolean {
    this.#deaths += 1;
    setTimeout(() => { this.#deaths -= 1; }, WINDOW_MS).unref();
    return this.#deaths > this.#deathsMax;
  }
}
