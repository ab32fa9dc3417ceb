/** A histogram: how many values fell between fixed bounds, and their sum. */
import type { Labels, Sample } from './family.ts';

/** Counts values by the bounds that they do not exceed. */
export class Histogram {
  readonly #bounds: readonly number[];
  /** By bucket, each for itself; the last is for what exceeds all bounds. */
  readonly #counts: number[];
  #sum = 0;

  /** @param bounds the upper bounds of the buckets, ascending; the one without end is added */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Array<number>(bounds.length + 1).fill(0);
  }

  /** Counts a value. */
  observe(value: number): void {
    const bounds = this.#bounds;
    let bucket = 0;
    while (bucket < bounds.length && value > bounds[bucket]!) bucket += 1;
    this.#counts[bucket]! += 1;
    this.#sum += value;
  }

  /** Its lines: buckets that each hold those below, too, the sum and the count. */
  samplesOf(labels: Labels): Sample[] {
    let count = 0;
    const buckets = this.#counts.map((own, bucket) => {
      count += own;
      const le = bucket < this.#bounds.length ? String(this.#bounds[bucket]) : '+Inf';
      return { suffix: '_bucket', labels: { ...labels, le }, value: count };
    });
    const sum = { suffix: '_sum', labels, value: this.#sum };
    return [...buckets, sum, { suffix: '_count', labels, value: count }];
  }
}
