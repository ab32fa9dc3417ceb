/** All that one process counts, of all layers. */
import { dbFamilies } from './db/db-metrics.ts';
import type { SessionPool } from './db/pool.ts';
import { elapsedMs } from './db/running-clock.ts';
import { createHttpMeters, httpFamilies } from './http/meters.ts';
import type { HttpMeters } from './http/meters.ts';
import type { Family, Source } from './metrics/family.ts';
import { mergeCounted } from './metrics/merge.ts';
import { watchProcess } from './process-metrics.ts';
import { workersFamilies } from './worker-metrics.ts';
import type { WorkersSeen } from './worker-metrics.ts';

/** The counts that go to those who count, and what they come to. */
export type Counting = Readonly<{
  http: HttpMeters;
  source: Source;
  /** What is told when this is the only process. */
  collect: () => Promise<Family[]>;
}>;

/** The one process that there is. */
const ALONE: WorkersSeen = Object.freeze({ wanted: 1, listening: 1, silent: 0, deaths: 0 });

/**
 * Begins to count.
 *
 * @param isTold whether anybody can ask: the delay of events is measured only then
 */
export function beginCounting(pool: SessionPool, isTold: boolean): Counting {
  const http = createHttpMeters(elapsedMs);
  const ofProcess = isTold ? watchProcess() : () => [];
  const source = () => [
    ...httpFamilies(http), ...dbFamilies(pool), ...ofProcess(),
  ];
  const collect = async () =>
    mergeCounted([{ worker: 0, families: [...source(), ...workersFamilies(ALONE)] }]);
  return { http, source, collect };
}
