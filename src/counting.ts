/** All that one process counts, of all layers. */
import { dbFamilies } from './db/db-metrics.ts';
import type { SessionPool } from './db/pool.ts';
import { elapsedMs } from './db/running-clock.ts';
import { sweepFamilies } from './db/sweep-metrics.ts';
import type { Sweeper } from './db/sweep.ts';
import { createHttpMeters, httpFamilies } from './http/meters.ts';
import type { HttpMeters } from './http/meters.ts';
import { counter } from './db/metrics/family.ts';
import type { Family, Source } from './db/metrics/family.ts';
import { mergeCounted } from './db/metrics/merge.ts';
import type { Log } from './log.ts';
import type { Channel } from './otp/channel.ts';
import { DeliveryCounts, deliveryFamilies } from './otp/delivery/delivery-metrics.ts';
import { OtpCounts, otpFamilies } from './otp/otp-metrics.ts';
import { watchProcess } from './process-metrics.ts';
import { workersFamilies } from './worker-metrics.ts';
import type { WorkersSeen } from './worker-metrics.ts';

/** The counts that go to those who count, and what they come to. */
export type Counting = Readonly<{
  http: HttpMeters;
  otp: OtpCounts;
  delivery: DeliveryCounts;
  source: Source;
  /** What is told when this is the only process. */
  collect: () => Promise<Family[]>;
}>;

/** The one process that there is. */
const ALONE: WorkersSeen = Object.freeze({ wanted: 1, listening: 1, silent: 0, deaths: 0 });

/** Those who count for themselves, and what is to be known of the process. */
export type CountingParts = Readonly<{
  pool: SessionPool;
  sweeper: Sweeper;
  channels: readonly Channel[];
  log: Log;
  /** Whether anybody can ask: the delay of events is measured only then. */
  isTold: boolean;
}>;

/** Begins to count. */
export function beginCounting(parts: CountingParts): Counting {
  const { pool, sweeper, channels, log, isTold } = parts;
  const otp = new OtpCounts();
  const delivery = new DeliveryCounts(channels);
  const http = createHttpMeters(elapsedMs);
  const ofProcess = isTold ? watchProcess() : () => [];
  const source = () => [
    ...httpFamilies(http), ...otpFamilies(otp), ...deliveryFamilies(delivery),
    ...dbFamilies(pool), ...sweepFamilies(sweeper.counts), ...ofProcess(), logFamily(log),
  ];
  const collect = async () =>
    mergeCounted([{ worker: 0, families: [...source(), ...workersFamilies(ALONE)] }]);
  return { http, otp, delivery, source, collect };
}

function logFamily({ dropped }: Log): Family {
  return counter('otpd_log_lines_dropped_total',
    'Lines of the log that were dropped because nobody read them in time.', dropped);
}
