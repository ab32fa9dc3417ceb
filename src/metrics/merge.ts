/** Merges the metric families of several processes. */
import type { Family, Sample } from './families.ts';

export type WorkerFamilies = Readonly<{
  /** 0 for the first process, 1 and up for workers. */
  worker: number;
  families: readonly Family[];
}>;

/**
 * Sums samples, and adds the label `worker` to per-process families. Keeps the order of families.
 */
export function mergeFamilies(list: readonly WorkerFamilies[]): Family[] {
  const merged = new Map<string, MergedFamily>();
  for (const { worker, families } of list) {
    for (const family of families) {
      let entry = merged.get(family.name);
      if (entry === undefined) merged.set(family.name, entry = { family, sums: new Map() });
      for (const sample of family.samples) {
        add(entry.sums, family.isPerProcess ? withWorker(sample, worker) : sample);
      }
    }
  }
  return [...merged.values()].map(({ family, sums }) =>
    ({ ...family, samples: [...sums.values()] }));
}

/** What remains of a process that has exited: counters and histograms must not shrink. */
export function withoutGauges(families: readonly Family[]): Family[] {
  return families.filter(({ type }) => type !== 'gauge');
}

type MergedFamily = Readonly<{ family: Family; sums: Map<string, Sample> }>;

function withWorker(sample: Sample, worker: number): Sample {
  return { ...sample, labels: { ...sample.labels, worker: String(worker) } };
}

function add(sums: Map<string, Sample>, sample: Sample): void {
  const key = `${sample.suffix} ${JSON.stringify(sample.labels)}`;
  const sum = sums.get(key);
  sums.set(key, sum === undefined ? sample : { ...sum, value: sum.value + sample.value });
}
