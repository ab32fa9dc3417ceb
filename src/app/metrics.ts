/** The metrics of one process, and their collection from all workers by the primary process. */
import cluster from 'node:cluster';
import type { Worker } from 'node:cluster';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { PROJECT_FOLDER } from './config/config.ts';
import { monotonicMs } from '../db/clock.ts';
import type { Instant } from '../db/instant.ts';
import { dbFamilies, sweepFamilies } from '../db/metrics.ts';
import type { ConnectionPool } from '../db/pool.ts';
import type { Primary } from '../db/primary.ts';
import type { Sweeper } from '../db/sweep/sweeper.ts';
import { createHttpMeters, httpFamilies } from '../http/metrics.ts';
import type { HttpMeters } from '../http/metrics.ts';
import type { Log } from './log/log.ts';
import {
  counter, gauge, info, mergeFamilies, processCounter, processGauge, remainsOf,
} from '../metrics/families.ts';
import type { Family, FamilySource, WorkerFamilies } from '../metrics/families.ts';
import type { Channel } from '../otp/channels/channel.ts';
import { DeliveryCounts, deliveryFamilies } from '../otp/delivery/events.ts';
import { OtpCounts, otpFamilies } from '../otp/metrics.ts';
import { send } from './process/worker-ipc.ts';
import type { WorkerMessage } from './process/worker-ipc.ts';

/** The counters of a process and the metrics made from them. */
export type ProcessMetrics = Readonly<{
  http: HttpMeters;
  otp: OtpCounts;
  delivery: DeliveryCounts;
  source: FamilySource;
  /** The metrics of a single process, which no primary process merges. */
  collect: () => Promise<Family[]>;
}>;

type ProcessMetricsDeps = Readonly<{
  pool: ConnectionPool;
  primary: Primary;
  sweeper: Sweeper;
  channels: readonly Channel[];
  log: Log;
  readHostClock: () => Instant;
  /** Without an admin listener the process is not measured. */
  isExposed: boolean;
}>;

export function createProcessMetrics(deps: ProcessMetricsDeps): ProcessMetrics {
  const { pool, primary, sweeper, channels, log, readHostClock, isExposed } = deps;
  const otp = new OtpCounts();
  const delivery = new DeliveryCounts(channels);
  const http = createHttpMeters(monotonicMs);
  const processFamilies = isExposed ? watchProcess(readHostClock) : () => [];
  const source = () => [
    ...httpFamilies(http), ...otpFamilies(otp), ...deliveryFamilies(delivery),
    ...dbFamilies(pool), ...primary.families(), ...sweepFamilies(sweeper.counts),
    ...processFamilies(), logFamily(log),
  ];
  const collect = async () =>
    mergeFamilies([{ worker: 0, families: [...source(), ...workersFamilies(SINGLE_PROCESS)] }]);
  return { http, otp, delivery, source, collect };
}

function logFamily({ dropped }: Log): Family {
  return counter('otpd_log_lines_dropped_total',
    'Log lines that were dropped because their reader was too slow.', dropped);
}

const RESOLUTION_MS = 20;

const NANOSECONDS = 1e9;
const MICROSECONDS = 1e6;

/**
 * Measures the process, under names of otpd and under those that dashboards for Node.js expect.
 * Each call of the source covers the event loop delay since the last call.
 */
function watchProcess(readHostClock: () => Instant): FamilySource {
  const startedAt = readHostClock() / MICROSECONDS - monotonicMs() / 1000;
  const build = readBuild();
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delays.enable();
  return () => {
    const [p50, p99] = [50, 99].map((percent) => secondsLate(delays.percentile(percent)));
    // The mean of no event is NaN.
    const mean = secondsLate(delays.count === 0 ? 0 : delays.mean);
    delays.reset();
    return [
      processGauge('otpd_event_loop_delay_p50_seconds',
        'Median event loop delay since the last scrape.', p50!),
      processGauge('otpd_event_loop_delay_p99_seconds',
        '99th percentile of the event loop delay since the last scrape.', p99!),
      processGauge('nodejs_eventloop_lag_seconds',
        'Mean event loop delay since the last scrape.', mean),
      processGauge('nodejs_eventloop_lag_p50_seconds',
        'The same as otpd_event_loop_delay_p50_seconds.', p50!),
      processGauge('nodejs_eventloop_lag_p99_seconds',
        'The same as otpd_event_loop_delay_p99_seconds.', p99!),
      ...memoryFamilies(), ...cpuFamilies(), ...descriptorFamilies(),
      processGauge('otpd_uptime_seconds', 'Time since the process started.', monotonicMs() / 1000),
      processGauge('process_start_time_seconds', 'Start of the process, in Unix time.', startedAt),
      info('otpd_build_info', 'The versions that processes run.', build),
    ];
  };
}

/** The histogram holds the time between two timer events, which includes the timer interval. */
function secondsLate(nanoseconds: number): number {
  return Math.max(0, nanoseconds / NANOSECONDS - RESOLUTION_MS / 1000);
}

function memoryFamilies(): Family[] {
  const { rss, heapUsed, heapTotal, external } = process.memoryUsage();
  const values = [
    ['Resident memory of the process.', rss,
      ['otpd_resident_memory_bytes', 'process_resident_memory_bytes']],
    ['V8 heap in use, with garbage not yet collected.', heapUsed,
      ['otpd_heap_used_bytes', 'nodejs_heap_size_used_bytes']],
    ['Size of the V8 heap.', heapTotal, ['otpd_heap_size_bytes', 'nodejs_heap_size_total_bytes']],
    ['Memory of buffers outside the V8 heap.', external, ['nodejs_external_memory_bytes']],
  ] as const;
  return values.flatMap(([help, value, names]) =>
    names.map((name) => processGauge(name, help, value)));
}

function cpuFamilies(): Family[] {
  const { user, system } = process.cpuUsage();
  const times = [['', user + system], ['user_', user], ['system_', system]] as const;
  return times.map(([kind, microseconds]) => processCounter(`process_cpu_${kind}seconds_total`,
    'CPU time of the process.', microseconds / MICROSECONDS));
}

/** Empty where procfs does not say both. */
function descriptorFamilies(): Family[] {
  try {
    const limits = readFileSync('/proc/self/limits', 'utf8');
    const [, limit] = /^Max open files +(\d+)/m.exec(limits)!;
    return [
      // One of them reads this list.
      processGauge('process_open_fds', 'Open file descriptors.',
        readdirSync('/proc/self/fd').length - 1),
      processGauge('process_max_fds', 'The maximum of them.', Number(limit)),
    ];
  } catch {
    return [];
  }
}

function readBuild(): Readonly<{ version: string; node: string }> {
  const text = readFileSync(join(PROJECT_FOLDER, 'package.json'), 'utf8');
  const { version } = JSON.parse(text) as { version: string };
  return { version, node: process.version };
}

type WorkersSeen = Readonly<{
  wanted: number;
  listening: number;
  silent: number;
  deaths: number;
}>;

export function workersFamilies({ wanted, listening, silent, deaths }: WorkersSeen): Family[] {
  return [
    gauge('otpd_workers', 'Processes that answer requests.', listening),
    gauge('otpd_workers_wanted', 'Processes that should answer requests.', wanted),
    gauge('otpd_workers_silent',
      'Workers that did not report in time; their previous values are shown.',
      silent),
    counter('otpd_worker_deaths_total', 'Workers that exited unexpectedly.', deaths),
  ];
}

const SINGLE_PROCESS: WorkersSeen
  = Object.freeze({ wanted: 1, listening: 1, silent: 0, deaths: 0 });

/** A worker that does not answer in time is reported with its previous values. */
const ANSWER_TIMEOUT_MS = 500;

/** Collects the metrics of all workers at once. */
export class WorkerCounts {
  readonly #last = new Map<Worker, readonly Family[]>();
  /** The counters of workers that have exited, so that no counter ever decreases. */
  #exited: readonly Family[] = [];
  #round = 0;

  record(worker: Worker, families: readonly Family[]): void {
    this.#last.set(worker, families);
  }

  /** Adds the last known counters of a worker to those of the exited ones. */
  recordExit(worker: Worker): void {
    const families = remainsOf(this.#last.get(worker) ?? []);
    this.#last.delete(worker);
    this.#exited = mergeFamilies([{ worker: 0, families: this.#exited }, { worker: 0, families }]);
  }

  /**
   * Requests the metrics of all workers.
   *
   * @param serving workers by slot
   * @param retiring replaced workers, whose counters count and whose gauges do not
   * @returns the last metrics of each, and how many workers did not answer in time
   */
  async collect(
    serving: ReadonlyMap<number, Worker>,
    retiring: ReadonlySet<Worker>,
  ): Promise<Readonly<{ counted: WorkerFamilies[]; silent: number }>> {
    const silent = new Set([...serving.values(), ...retiring]);
    this.#round += 1;
    await this.#awaitReplies(silent, this.#round);
    const counted = [...serving].sort(([one], [other]) => one - other)
      .map(([number, worker]) => ({ worker: number, families: this.#last.get(worker) ?? [] }));
    for (const worker of retiring) {
      counted.push({ worker: 0, families: remainsOf(this.#last.get(worker) ?? []) });
    }
    counted.push({ worker: 0, families: this.#exited });
    return { counted, silent: silent.size };
  }

  /** Removes each worker that answers from `silent`. */
  #awaitReplies(silent: Set<Worker>, round: number): Promise<void> {
    return new Promise((resolve) => {
      const finish = (): void => {
        clearTimeout(timer);
        cluster.off('message', onReply);
        resolve();
      };
      const onReply = (worker: Worker, message: WorkerMessage): void => {
        if (message?.kind !== 'counted' || message.number !== round || !silent.has(worker)) return;
        // recordExit has already counted a worker that has exited in the meantime.
        if (!worker.isDead()) this.record(worker, message.families);
        silent.delete(worker);
        if (silent.size === 0) finish();
      };
      const timer = setTimeout(finish, ANSWER_TIMEOUT_MS);
      cluster.on('message', onReply);
      for (const worker of silent) send(worker, { kind: 'count', number: round });
      if (silent.size === 0) finish();
    });
  }
}
