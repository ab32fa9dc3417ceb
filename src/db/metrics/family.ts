/**
 * What is counted, as plain values: they are written out, or go to another process and are summed
 * there. Who counts keeps plain numbers, and makes these of them when somebody asks.
 */
import type { Histogram } from './histogram.ts';

/** Names and values. Every value must be of a small known set. */
export type Labels = Readonly<Record<string, string>>;

/** One number. */
export type Sample = Readonly<{
  /** '' but for the lines of a histogram. */
  suffix: string;
  labels: Labels;
  value: number;
}>;

/** All numbers of one name. */
export type Family = Readonly<{
  name: string;
  help: string;
  type: 'counter' | 'gauge' | 'histogram';
  /** A sum over processes would say nothing: they are told apart by a label. */
  isPerProcess: boolean;
  samples: readonly Sample[];
}>;

/** What families come from; asked each time. */
export type Source = () => readonly Family[];

/** One number, or one for each set of labels. */
export type Values = number | readonly (readonly [labels: Labels, value: number])[];

/** What only ever grows; the name ends in `_total`. */
export function counter(name: string, help: string, values: Values): Family {
  return { name, help, type: 'counter', isPerProcess: false, samples: samplesOf(values) };
}

/** What goes up and down, and can be summed over processes. */
export function gauge(name: string, help: string, values: Values): Family {
  return { name, help, type: 'gauge', isPerProcess: false, samples: samplesOf(values) };
}

/** What goes up and down in each process by itself. */
export function processGauge(name: string, help: string, values: Values): Family {
  return { name, help, type: 'gauge', isPerProcess: true, samples: samplesOf(values) };
}

/** Histograms with the same bounds. */
export function histogram(
  name: string,
  help: string,
  series: readonly (readonly [labels: Labels, histogram: Histogram])[],
): Family {
  const samples = series.flatMap(([labels, one]) => one.samplesOf(labels));
  return { name, help, type: 'histogram', isPerProcess: false, samples };
}

function samplesOf(values: Values): Sample[] {
  const list = typeof values === 'number' ? [[{}, values] as const] : values;
  return list.map(([labels, value]) => ({ suffix: '', labels, value }));
}
