/** The workers of a primary process: starts, replaces and stops them, and merges their metrics. */
import cluster from 'node:cluster';
import type { Address, Worker } from 'node:cluster';
import { once } from 'node:events';
import type { LogRelay } from '../log/writer.ts';
import { WorkerCounts, workersFamilies } from '../metrics.ts';
import { mergeFamilies } from '../../metrics/families.ts';
import type { Family } from '../../metrics/families.ts';
import { send } from './worker-ipc.ts';
import type { WorkerMessage } from './worker-ipc.ts';

/** A worker that did not start, or workers that cannot be kept running. */
export class WorkerError extends Error {
  override name = 'WorkerError';
}

/** A worker that a signal ended before it listened. Its configuration may be right. */
export class WorkerKilled extends WorkerError {}

const EXITED_EARLY = 'a worker ended before it listened; its message is above';
const OTHER_ADDRESS = 'a worker listens on another HOST or PORT than the others';

/**
 * Assigns workers to slots, numbered from 1. A worker holds a slot from the time it listens until
 * it exits, or until another worker that was started for the same slot listens.
 */
export class WorkerPool {
  /** The workers that accept connections, by slot. */
  readonly serving = new Map<number, Worker>();
  readonly #starting = new Map<Worker, number>();
  readonly #retiring = new Set<Worker>();
  /** The workers that have answered every request. */
  readonly #drained = new WeakSet<Worker>();
  readonly #counts = new WorkerCounts();
  readonly #retireTimeoutMs: number;
  readonly #relay: LogRelay | null;
  #address: Address | null = null;
  #collecting: Promise<Family[]> | null = null;

  /**
   * @param retireTimeoutMs a replaced worker that takes longer to exit is killed
   * @param relay forwards the standard error of the workers; null: workers inherit that of this
   *   process
   */
  constructor(retireTimeoutMs: number, relay: LogRelay | null) {
    this.#retireTimeoutMs = retireTimeoutMs;
    this.#relay = relay;
    // Each worker accepts for itself from one shared queue. If the primary process accepted for
    // them, a connection that it passes to a dying worker would stay open and never be answered.
    cluster.schedulingPolicy = cluster.SCHED_NONE;
    cluster.setupPrimary({
      stdio: ['inherit', 'inherit', relay === null ? 'inherit' : 'pipe', 'ipc'],
    });
    cluster.on('message', (worker: Worker, message: WorkerMessage) => {
      if (message?.kind !== 'leaving') return;
      this.#counts.record(worker, message.families);
      if (message.isAnswered) this.#drained.add(worker);
      send(worker, { kind: 'leave' });
    });
  }

  /** The port that all workers share; 0 before the first one listens. */
  get port(): number {
    return this.#address?.port ?? 0;
  }

  get #running(): Worker[] {
    return [...this.#starting.keys(), ...this.serving.values(), ...this.#retiring];
  }

  /** True when a worker serves the slot or starts for it. */
  isTaken(slot: number): boolean {
    return this.serving.has(slot) || [...this.#starting.values()].includes(slot);
  }

  /**
   * Starts a worker for a slot. The current worker of the slot serves until the new one listens.
   *
   * @throws WorkerKilled when a signal ends the worker before it listens; WorkerError when it exits
   *   by itself, or listens on another address than the others; the error of a failed fork
   */
  async startWorker(slot: number): Promise<void> {
    const worker = cluster.fork();
    this.#starting.set(worker, slot);
    try {
      await this.#untilListening(worker);
    } finally {
      this.#starting.delete(worker);
    }
    const old = this.serving.get(slot);
    this.serving.set(slot, worker);
    if (old !== undefined) this.#retiring.add(old);
  }

  async #untilListening(worker: Worker): Promise<void> {
    if (worker.process.stderr) this.#relay?.forward(worker.process.stderr);
    // A fork that fails emits an error, which rejects this promise, and no exit.
    const exit = once(worker, 'exit').then(([, signal]) => {
      throw signal === null ? new WorkerError(EXITED_EARLY)
        : new WorkerKilled(`${signal} ended a worker before it listened`);
    });
    exit.catch(() => {});
    const [address] = await Promise.race([once(worker, 'listening'), exit]) as [Address];
    this.#address ??= address;
    if (address.port === this.port && address.address === this.#address.address) return;
    await terminate(worker, 0);
    throw new WorkerError(OTHER_ADDRESS);
  }

  /** Makes the replaced workers retire, and waits until they have exited. */
  async drainReplaced(): Promise<void> {
    await Promise.all([...this.#retiring].map((worker) => {
      send(worker, { kind: 'retire' });
      return waitForExit(worker, this.#retireTimeoutMs);
    }));
  }

  /**
   * Removes a worker that has exited.
   *
   * @returns the slot that it served; null when it was starting or had been replaced
   */
  onExit(worker: Worker): number | null {
    this.#counts.recordExit(worker);
    this.#retiring.delete(worker);
    const [slot] = [...this.serving].find(([, serving]) => serving === worker) ?? [];
    if (slot === undefined) return null;
    this.serving.delete(slot);
    return slot;
  }

  /** Includes workers that are starting: they may have read the files already. */
  reload(): void {
    for (const worker of this.#running) send(worker, { kind: 'reload' });
  }

  /**
   * Stops all workers, and kills those that run longer than `timeoutMs`.
   *
   * @returns true when every worker has answered its requests
   */
  async stop(timeoutMs: number): Promise<boolean> {
    const busy = [...this.serving.values(), ...this.#retiring];
    await Promise.all(this.#running.map((worker) => terminate(worker, timeoutMs)));
    return busy.every((worker) => this.#drained.has(worker));
  }

  /** Merges the metrics of all workers. Concurrent calls share one collection. */
  async collect(wanted: number, deaths: number): Promise<Family[]> {
    this.#collecting ??= this.#collect(wanted, deaths).finally(() => { this.#collecting = null; });
    return this.#collecting;
  }

  async #collect(wanted: number, deaths: number): Promise<Family[]> {
    const { counted, silent } = await this.#counts.collect(this.serving, this.#retiring);
    const seen = { wanted, listening: this.serving.size, silent, deaths };
    return mergeFamilies([...counted, { worker: 0, families: workersFamilies(seen) }]);
  }
}

async function terminate(worker: Worker, timeoutMs: number): Promise<void> {
  if (!worker.isDead()) worker.process.kill('SIGTERM');
  await waitForExit(worker, timeoutMs);
}

/** Waits for the exit of a worker, and kills it after `timeoutMs`. */
async function waitForExit(worker: Worker, timeoutMs: number): Promise<void> {
  if (worker.isDead()) return;
  const timer = setTimeout(() => worker.process.kill('SIGKILL'), timeoutMs);
  await once(worker, 'exit');
  clearTimeout(timer);
}
