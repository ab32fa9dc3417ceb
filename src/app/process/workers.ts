/** Several processes on one port: the kernel and node:cluster hand them the connections. */
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

/** Processes that serve. */
type Workers = Readonly<{
  /** The port that they share. */
  port: number;
  /** Rejects when they keep ending; never resolves. */
  failed: Promise<never>;
  /** Whether all that were asked for accept connections. */
  hasAllWorkers: () => boolean;
  /** What all have counted, added up; those that have ended are in it. */
  collect: () => Promise<Family[]>;
  /** Asks all to read anew what can change while they run, those that start right after that. */
  reload: () => void;
  /** Puts a new process in the slot of each, one after the other. Never rejects. */
  roll: () => Promise<void>;
  /**
   * Asks all to stop, and resolves when the last has ended, or was ended at the bound: with
   * whether all have answered what they had.
   */
  stop: (timeoutMs: number) => Promise<boolean>;
}>;

/** What workers are started with. */
type WorkersOptions = Readonly<{
  count: number;
  /** What a worker may take to end when another has taken its slot. */
  retireTimeoutMs: number;
  /** Is told of rolling restarts. */
  onEvent: (event: RollEvent) => void;
  /** What hands on their standard error; null when they write to that of this process. */
  relay: LogRelay | null;
}>;

const DEATHS_MAX = 10;

const CRASH_LOOP = 'the workers keep ending by themselves';

/** True in a process that was started by startWorkers. */
export function isWorker(): boolean {
  return cluster.isWorker;
}

/**
 * Starts processes that run the same command line as this one, and starts another for each that
 * ends by itself.
 *
 * @throws WorkerError when one ends before it listens
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
    // One that ends before it listens ends here again.
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

/** What answers requests. */
export type Listener = Readonly<{
  port: number;
  /** Whether every process that shall answer requests does. */
  hasAllWorkers: () => boolean;
  /** What all of them have counted. */
  collect: () => Promise<Family[]>;
  /** Rejects when they cannot be kept running; never resolves. */
  failed: Promise<never>;
  /** Resolves with whether all that was in flight has been answered. */
  close: (timeoutMs: number) => Promise<boolean>;
}>;

/** What signals ask of a process that serves. */
export type Controls = Readonly<{
  stop: AbortSignal;
  reloads: Reloads;
  rolls: CoalescingRunner;
  /** Is told what they have led to. */
  logSignal: LogSignal;
}>;

/**
 * Starts workers that listen, reload and are rolled over as they are asked.
 *
 * @param count how many
 * @param relay hands on their standard error; null when they write to that of this process
 * @throws WorkerError when one ends before it listens
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
  // A worker drains by itself within the bound; ending it comes after.
  return { ...workers, close: (timeoutMs) => workers.stop(timeoutMs + WORKER_GRACE_MS) };
}
