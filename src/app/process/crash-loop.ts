/** A process that is started again whenever it dies, and the end of that: a crash loop. */
/** So long does a death count. */
const CALM_MS = 60_000;

/** Counts deaths. More of them within a minute than a bound must not be hidden any longer. */
export class CrashLoop {
  readonly #deathsMax: number;
  #deaths = 0;

  /** @param deathsMax deaths within a minute that are no loop yet */
  constructor(deathsMax: number) {
    this.#deathsMax = deathsMax;
  }

  /** Notes a death; true when there were too many. */
  noteDeath(): boolean {
    this.#deaths += 1;
    setTimeout(() => { this.#deaths -= 1; }, CALM_MS).unref();
    return this.#deaths > this.#deathsMax;
  }
}
