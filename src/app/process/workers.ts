/** Several processes on one port, between which node:cluster distributes the connections. */
import cluster from 'node:cluster';
import type { Worker } from 'node:cluster';
import { CrashLoop } from './crash-loop.ts';
import type { LogSignal } from '../log/event-log.ts';
import type { LogRelay } from '../log/relay.ts';
import type { Family } from '../../metrics/families.ts';
import type { CoalescingRunner, Reloads } from './reload.ts';
import { rollWorkers } from './rolling-restart.ts';
import type { RollEvent } from './rolling-restart.ts';
import { DRAIN_TIMEOUT_MS, RETIRE_TIMEOUT_MS, WORKER_GRACE_MS } from './shutdown.ts';
import { WorkerPool, WorkerError } from './worker-pool.ts';

type Workers = Readonly<{
  port: number;
  /** Rejects when workers crash in a loop; never resolves. */
  failed: Promise<never>;
  /** True when as many workers as configured accept connections. */
  hasAllWorkers: () => boolean;
  /** The merged metrics, with the counters of workers that have exited. */
  collect: () => Promise<Family[]>;
  reload: () => void;
  /** Replaces the workers one at a time. Never rejects. */
  roll: () => Promise<void>;
  /** Returns true when every worker has answered its requests. */
  stop: (timeoutMs: number) => Promise<boolean>;
}>;

type WorkersOptions = Readonly<{
  count: number;
  /** A replaced worker that takes longer to exit is killed. */
  retireTimeoutMs: number;
  /** Receives the events of rolling restarts. */
  onEvent: (event: RollEvent) => void;
  /** Null: workers inherit the standard error of this process. */
  relay: LogRelay | null;
}>;

const DEATHS_MAX = 10;

const CRASH_LOOP = `more than ${DEATHS_MAX} workers exited unexpectedly within a minute`;

/** True in a process that was started by startWorkers. */
export function isWorker(): boolean {
  return cluster.isWorker;
}

/**
 * Starts processes with the command line of this one, and replaces each that exits unexpectedly.
 *
 * @throws WorkerError when a worker exits before it listens
 */
async function startWorkers(options: WorkersOptions): Promise<Workers> {
  const { count, retireTimeoutMs, onEvent, relay } = options;
  const slots = Array.from({ length: count }, (_, index) => index + 1);
  const pool = new WorkerPool(retireTimeoutMs, relay);
  const crashes = new CrashLoop(DEATHS_MAX);
  let isStopping = false;
  let fail: (error: Error) => void = () => {};
  const failed = new Promise<never>((_, reject) => { fail = reject; });
  failed.catch(() => {});

  const stop = (timeoutMs: number): Promise<boolean> => {
    isStopping = true;
    return pool.stop(timeoutMs);
  };
  try {
    await Promise.all(slots.map((slot) => pool.startWorker(slot)));
  } catch (error) {
    await stop(0);
    throw error;
  }
  cluster.on('exit', (worker: Worker) => {
    const { isDeath, freeSlot } = pool.onExit(worker);
    if (isStopping) return;
    if (isDeath && crashes.recordDeath()) fail(new WorkerError(CRASH_LOOP));
    // A replacement that exits before it listens causes another exit event.
    else if (freeSlot !== null) pool.startWorker(freeSlot).catch(() => {});
  });
  return {
    port: pool.port,
    failed,
    hasAllWorkers: () => pool.serving.size === count,
    collect: () => pool.collect(count),
    reload: () => pool.reload(),
    roll: () => rollWorkers({ pool, slots, onEvent, isStopping: () => isStopping }),
    stop,
  };
}

/** The service as the primary process sees it: its own listener, or its workers. */
export type Listener = Readonly<{
  port: number;
  /** True when every configured process accepts connections. */
  hasAllWorkers: () => boolean;
  /** The metrics of all processes, merged. */
  collect: () => Promise<Family[]>;
  /** Rejects when the processes cannot be kept running; never resolves. */
  failed: Promise<never>;
  /** Returns true when every request in flight was answered. */
  close: (timeoutMs: number) => Promise<boolean>;
}>;

/** What signals control in a serving process. */
export type Controls = Readonly<{
  stop: AbortSignal;
  reloads: Reloads;
  rolls: CoalescingRunner;
  logSignal: LogSignal;
}>;

/**
 * Starts workers and connects them to the signals of this process.
 *
 * @param relay null: workers inherit the standard error of this process
 * @throws WorkerError when a worker exits before it listens
 */
export async function listenWithWorkers(
  count: number,
  relay: LogRelay | null,
  { reloads, rolls, logSignal }: Controls,
): Promise<Listener> {
  const retireTimeoutMs = RETIRE_TIMEOUT_MS + DRAIN_TIMEOUT_MS + WORKER_GRACE_MS;
  const workers = await startWorkers({ count, retireTimeoutMs, onEvent: logSignal, relay });
  reloads.forwardTo(workers.reload);
  rolls.start(workers.roll);
  // A worker drains within the timeout by itself; it is killed only after that.
  return { ...workers, close: (timeoutMs) => workers.stop(timeoutMs + WORKER_GRACE_MS) };
}
