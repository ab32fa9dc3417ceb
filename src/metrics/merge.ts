/** The families of several processes as one list: summed, or told apart. */
import type { Family, Sample } from './families.ts';

/** What a process has counted. */
export type WorkerFamilies = Readonly<{
  /** The number of the process: 0 for the first one, workers from 1 on. */
  worker: number;
  families: readonly Family[];
}>;

/** Sums what can be summed, and gives the rest a label `worker`. The order is that of the first. */
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

/** What stays of a process that has ended: what only ever grows must not shrink. */
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
