/** Several processes that accept connections on one port, and are replaced when they die. */
import cluster from 'node:cluster';
import type { Worker } from 'node:cluster';
import type { LogSignal } from '../log/event-log.ts';
import type { LogRelay } from '../log/writer.ts';
import type { Family } from '../../metrics/families.ts';
import type { CoalescingRunner, Reloads } from './reload.ts';
import { rollWorkers } from './rolling-restart.ts';
import type { RollEvent } from './rolling-restart.ts';
import { CrashLoop, DRAIN_TIMEOUT_MS, RETIRE_TIMEOUT_MS, WORKER_GRACE_MS } from './shutdown.ts';
import { WorkerPool, WorkerError, WorkerKilled } from './worker-pool.ts';

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

const CRASH_LOOP = `more than ${DEATHS_MAX} workers ended unexpectedly within a minute`;

/** True in a process that a primary process has started. */
export function isWorker(): boolean {
  return cluster.isWorker;
}

/** Starts processes with the command line of this one, and replaces each that dies. */
class Workers {
  readonly pool: WorkerPool;
  /** Rejects when a worker cannot be started, or workers die in a loop; never resolves. */
  readonly failed: Promise<never>;
  readonly #count: number;
  readonly #onEvent: (event: RollEvent) => void;
  readonly #crashes = new CrashLoop(DEATHS_MAX);
  #phase: 'starting' | 'running' | 'stopping' = 'starting';
  #deaths = 0;
  #fail: (error: unknown) => void = () => {};
  #onComplete: () => void = () => {};

  constructor({ count, retireTimeoutMs, onEvent, relay }: WorkersOptions) {
    this.pool = new WorkerPool(retireTimeoutMs, relay);
    this.#count = count;
    this.#onEvent = onEvent;
    this.failed = new Promise<never>((_, reject) => { this.#fail = reject; });
    this.failed.catch(() => {});
  }

  get #slots(): number[] {
    return Array.from({ length: this.#count }, (_, index) => index + 1);
  }

  /** True when as many workers as configured accept connections. */
  get isComplete(): boolean {
    return this.pool.serving.size === this.#count;
  }

  /**
   * Resolves when all workers listen. One that is killed before that is replaced.
   *
   * @throws WorkerError when a worker exits by itself before it listens
   */
  async start(): Promise<void> {
    const completed = new Promise<void>((resolve) => { this.#onComplete = resolve; });
    cluster.on('exit', (worker: Worker, code: number, signal: string | null) => {
      const slot = this.pool.onExit(worker);
      if (slot === null || this.#isStopping()) return;
      this.#recordDeath(signal ?? `exit code ${code}`);
      void this.#fill(slot);
    });
    for (const slot of this.#slots) void this.#fill(slot);
    try {
      await Promise.race([completed, this.failed]);
      this.#phase = 'running';
    } catch (error) {
      await this.stop(0);
      throw error;
    }
  }

  /** Replaces the workers one at a time. Never rejects. */
  roll(): Promise<void> {
    return rollWorkers({
      replace: (slot) => this.#replace(slot),
      drainReplaced: () => this.pool.drainReplaced(),
      slots: this.#slots,
      onEvent: this.#onEvent,
      isStopping: () => this.#isStopping(),
    });
  }

  /** The merged metrics, with the counters of workers that have exited. */
  collect(): Promise<Family[]> {
    return this.pool.collect(this.#count, this.#deaths);
  }

  /** Returns true when every worker has answered its requests. */
  stop(timeoutMs: number): Promise<boolean> {
    this.#phase = 'stopping';
    return this.pool.stop(timeoutMs);
  }

  /** A method, because the phase changes during an await. */
  #isStopping(): boolean {
    return this.#phase === 'stopping';
  }

  /** Starts workers for an empty slot until one of them listens. */
  async #fill(slot: number): Promise<void> {
    while (!this.#isStopping() && !this.pool.isTaken(slot)) {
      try {
        await this.pool.startWorker(slot);
        if (this.isComplete) this.#onComplete();
      } catch (error) {
        if (this.#isStopping()) return;
        // A worker that exits by itself would do so again; its message says why.
        if (this.#phase === 'starting' && !(error instanceof WorkerKilled)) {
          this.#fail(error);
          return;
        }
        this.#recordDeath((error as Error).message);
      }
    }
  }

  async #replace(slot: number): Promise<void> {
    try {
      await this.pool.startWorker(slot);
    } finally {
      // The old worker may have died while the new one failed to start.
      void this.#fill(slot);
    }
  }

  #recordDeath(cause: string): void {
    this.#deaths += 1;
    if (!this.#crashes.recordDeath()) return;
    this.#phase = 'stopping';
    this.#fail(new WorkerError(`${CRASH_LOOP}; the last one: ${cause}`));
  }
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
  { stop, reloads, rolls, logSignal }: Controls,
): Promise<Listener> {
  const retireTimeoutMs = RETIRE_TIMEOUT_MS + DRAIN_TIMEOUT_MS + WORKER_GRACE_MS;
  const workers = new Workers({ count, retireTimeoutMs, onEvent: logSignal, relay });
  await workers.start().catch((error: unknown) => {
    // Ctrl-C in a terminal reaches the workers as well, and ends those that are starting.
    stop.throwIfAborted();
    throw error;
  });
  reloads.forwardTo(() => workers.pool.reload());
  rolls.start(() => workers.roll());
  return {
    port: workers.pool.port,
    failed: workers.failed,
    hasAllWorkers: () => workers.isComplete,
    collect: () => workers.collect(),
    // A worker drains within the timeout by itself; it is killed only after that.
    close: (timeoutMs) => workers.stop(timeoutMs + WORKER_GRACE_MS),
  };
}
