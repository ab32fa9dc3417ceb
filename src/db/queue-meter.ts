/** What is measured of a collector: how long its lists are, and how many wait. */
import { Histogram } from './metrics/histogram.ts';

/** Items: from a lone request to the longest list. */
const BOUNDS: readonly number[] = Object.freeze([1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);

/** The meter of one collector. */
export class QueueMeter {
  readonly sizes = new Histogram(BOUNDS);
  /** How many wait now; the collector says it. */
  waiting: () => number = () => 0;
}
