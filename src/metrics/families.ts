/**
 * Metric families as plain values, which are encoded, or sent to another process and merged there.
 * Components keep plain numbers and create families on request.
 */

/** Label values come from small fixed sets. */
type Labels = Readonly<Record<string, string>>;

type Sample = Readonly<{
  /** `_bucket`, `_sum` or `_count` for histograms, otherwise ''. */
  suffix: string;
  labels: Labels;
  value: number;
}>;

/** All samples of one metric name. */
export type Family = Readonly<{
  name: string;
  help: string;
  type: 'counter' | 'gauge' | 'histogram';
  /** Values of several processes are not summed, but get the label `worker`. */
  isPerProcess: boolean;
  samples: readonly Sample[];
}>;

/** Called on every scrape of the metrics. */
export type FamilySource = () => readonly Family[];

/** A single value, or one value per label set. */
type LabelValues = number | readonly (readonly [labels: Labels, value: number])[];

/** Only grows; the name ends in `_total`. */
export function counter(name: string, help: string, values: LabelValues): Family {
  return { name, help, type: 'counter', isPerProcess: false, samples: toSamples(values) };
}

/** Goes up and down; values of several processes can be summed. */
export function gauge(name: string, help: string, values: LabelValues): Family {
  return { name, help, type: 'gauge', isPerProcess: false, samples: toSamples(values) };
}

/** Goes up and down; has a meaning for one process only. */
export function processGauge(name: string, help: string, values: LabelValues): Family {
  return { name, help, type: 'gauge', isPerProcess: true, samples: toSamples(values) };
}

/** Only grows, until the process ends; rate() of Prometheus takes the restart for what it is. */
export function processCounter(name: string, help: string, value: number): Family {
  return { name, help, type: 'counter', isPerProcess: true, samples: toSamples(value) };
}

/** What a process is, in labels; the value is 1. The name ends in `_info`. */
export function info(name: string, help: string, labels: Labels): Family {
  return gauge(name, help, [[labels, 1]]);
}

/** One histogram per label set; all have the same bounds. */
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

/** Counts values per bucket; a bound belongs to its bucket. */
export class Histogram {
  readonly #bounds: readonly number[];
  /** Not cumulative; the last bucket is +Inf. */
  readonly #counts: number[];
  #sum = 0;

  /** @param bounds the upper bounds of the buckets, ascending, without +Inf */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Array<number>(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    const bounds = this.#bounds;
    let bucket = 0;
    while (bucket < bounds.length && value > bounds[bucket]!) bucket += 1;
    this.#counts[bucket]! += 1;
    this.#sum += value;
  }

  /** Cumulative buckets, sum and count. */
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

export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** Encodes families in the Prometheus text format, version 0.0.4. Names must be unique. */
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

export type WorkerFamilies = Readonly<{
  /** 0 for the first process, 1 and up for workers. */
  worker: number;
  families: readonly Family[];
}>;

/**
 * Sums samples, and adds the label `worker` to per-process families. The same info of several
 * processes stays 1. Keeps the order of families.
 */
export function mergeFamilies(list: readonly WorkerFamilies[]): Family[] {
  const merged = new Map<string, MergedFamily>();
  for (const { worker, families } of list) {
    for (const family of families) {
      let entry = merged.get(family.name);
      if (entry === undefined) merged.set(family.name, entry = { family, sums: new Map() });
      for (const sample of family.samples) {
        if (family.isPerProcess) add(entry.sums, withWorker(sample, worker));
        else if (family.name.endsWith('_info')) entry.sums.set(keyOf(sample), sample);
        else add(entry.sums, sample);
      }
    }
  }
  return [...merged.values()].map(({ family, sums }) =>
    ({ ...family, samples: [...sums.values()] }));
}

/** What remains of a process that has exited: sums of counters and histograms must not shrink. */
export function remainsOf(families: readonly Family[]): Family[] {
  return families.filter(({ type, isPerProcess }) => type !== 'gauge' && !isPerProcess);
}

type MergedFamily = Readonly<{ family: Family; sums: Map<string, Sample> }>;

function withWorker(sample: Sample, worker: number): Sample {
  return { ...sample, labels: { ...sample.labels, worker: String(worker) } };
}

function keyOf({ suffix, labels }: Sample): string {
  return `${suffix} ${JSON.stringify(labels)}`;
}

function add(sums: Map<string, Sample>, sample: Sample): void {
  const key = keyOf(sample);
  const sum = sums.get(key);
  sums.set(key, sum === undefined ? sample : { ...sum, value: sum.value + sample.value });
}
