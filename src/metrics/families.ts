/**
 * What is counted, as plain values: they are written out, or go to another process and are summed
 * there. Who counts keeps plain numbers, and makes these of them when somebody asks.
 */
/** Names and values. Every value must be of a small known set. */
type Labels = Readonly<Record<string, string>>;

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
export type FamilySource = () => readonly Family[];

/** One number, or one for each set of labels. */
type LabelValues = number | readonly (readonly [labels: Labels, value: number])[];

/** What only ever grows; the name ends in `_total`. */
export function counter(name: string, help: string, values: LabelValues): Family {
  return { name, help, type: 'counter', isPerProcess: false, samples: toSamples(values) };
}

/** What goes up and down, and can be summed over processes. */
export function gauge(name: string, help: string, values: LabelValues): Family {
  return { name, help, type: 'gauge', isPerProcess: false, samples: toSamples(values) };
}

/** What goes up and down in each process by itself. */
export function processGauge(name: string, help: string, values: LabelValues): Family {
  return { name, help, type: 'gauge', isPerProcess: true, samples: toSamples(values) };
}

/** Histograms with the same bounds. */
export function histogram(
  name: string,
  help: string,
  series: readonly (readonly [labels: Labels, histogram: Histogram])[],
): Family {
  const samples = series.flatMap(([labels, one]) => one.toSamples(labels));
  return { name, help, type: 'histogram', isPerProcess: false, samples };
}

function toSamples(values: LabelValues): Sample[] {
  const list = typeof values === 'number' ? [[{}, values] as const] : values;
  return list.map(([labels, value]) => ({ suffix: '', labels, value }));
}

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
  toSamples(labels: Labels): Sample[] {
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

/** What the text is announced as. */
export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** Writes families out, each name once. */
export function encodeFamilies(families: readonly Family[]): string {
  return families.map(encodeFamily).join('');
}

function encodeFamily({ name, help, type, samples }: Family): string {
  const head = `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n`;
  return head + samples.map((sample) => encodeSample(name, sample)).join('');
}

function encodeSample(name: string, { suffix, labels, value }: Sample): string {
  const list = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`);
  const braces = list.length === 0 ? '' : `{${list.join(',')}}`;
  return `${name}${suffix}${braces} ${value}\n`;
}

function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function escapeLabel(text: string): string {
  return escapeHelp(text).replaceAll('"', '\\"');
}
