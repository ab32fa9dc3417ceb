/** The workers of a first process: which of them has which slot, and what all have counted. */
import cluster from 'node:cluster';
import type { Address, Worker } from 'node:cluster';
import { once } from 'node:events';
import type { LogRelay } from '../log/relay.ts';
import { WorkerCounts, workersFamilies } from '../metrics.ts';
import type { Family } from '../../metrics/families.ts';
import { mergeFamilies } from '../../metrics/merge.ts';
import { send } from './worker-ipc.ts';
import type { WorkerMessage } from './worker-ipc.ts';

/** How a worker has ended. */
type Exit = Readonly<{
  /** It had not been asked to. */
  isDeath: boolean;
  /** Its slot, when nobody has it now. */
  freeSlot: number | null;
}>;

/** A process that was started and is no worker; the message says why. */
export class WorkerError extends Error {
  override name = 'WorkerError';
}

const EXITED_EARLY = 'a worker ended before it listened; its message is above';
const OTHER_ADDRESS = 'a worker listens on another HOST or PORT than the others';

/**
 * A slot is a number from 1 on. A worker has it from when it listens until it ends, or until
 * another one that was started for the same slot listens.
 */
export class WorkerPool {
  /** Those that accept connections, by their places. */
  readonly serving = new Map<number, Worker>();
  readonly #starting = new Map<Worker, number>();
  readonly #retiring = new Set<Worker>();
  /** Those that have said that they have answered all. */
  readonly #drained = new WeakSet<Worker>();
  readonly #counts = new WorkerCounts();
  readonly #retireTimeoutMs: number;
  readonly #relay: LogRelay | null;
  #address: Address | null = null;
  #deaths = 0;
  #collecting: Promise<Family[]> | null = null;

  /**
   * @param retireTimeoutMs what a worker that has retired may take to end
   * @param relay hands on their standard error; null when they write to that of this process
   */
  constructor(retireTimeoutMs: number, relay: LogRelay | null) {
    this.#retireTimeoutMs = retireTimeoutMs;
    this.#relay = relay;
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

  /** The port that all share; 0 before one listens. */
  get port(): number {
    return this.#address?.port ?? 0;
  }

  /** All that have not ended. */
  get #running(): Worker[] {
    return [...this.#starting.keys(), ...this.serving.values(), ...this.#retiring];
  }

  /**
   * Starts a worker for a slot. Whoever has it meanwhile serves on until this one listens.
   *
   * @throws WorkerError when it ends before it listens, or listens elsewhere than the others
   */
  async startWorker(slot: number): Promise<void> {
    const worker = cluster.fork();
    this.#relay?.forward(worker.process.stderr!);
    this.#starting.set(worker, slot);
    const exit = once(worker, 'exit').then(() => { throw new WorkerError(EXITED_EARLY); });
    exit.catch(() => {});
    const [address] = await Promise.race([once(worker, 'listening'), exit]) as [Address];
    this.#address ??= address;
    if (address.port !== this.port || address.address !== this.#address.address) {
      await terminate(worker, 0);
      throw new WorkerError(OTHER_ADDRESS);
    }
    this.#starting.delete(worker);
    const old = this.serving.get(slot);
    this.serving.set(slot, worker);
    if (old !== undefined) this.#retiring.add(old);
  }

  /** Asks those whose places others have to retire, and waits until they have ended. */
  async drainReplaced(): Promise<void> {
    await Promise.all([...this.#retiring].map((worker) => {
      send(worker, { kind: 'retire' });
      return waitForExit(worker, this.#retireTimeoutMs);
    }));
  }

  /** Strikes a worker off that has ended. */
  onExit(worker: Worker): Exit {
    this.#counts.recordExit(worker);
    if (this.#retiring.delete(worker)) return { isDeath: false, freeSlot: null };
    const [slot] = [...this.serving].find(([, serving]) => serving === worker) ?? [];
    const owned = slot ?? this.#starting.get(worker) ?? null;
    if (slot !== undefined) this.serving.delete(slot);
    this.#starting.delete(worker);
    const isTaken = owned === null || this.serving.has(owned)
      || [...this.#starting.values()].includes(owned);
    const isDeath = slot !== undefined || !isTaken;
    if (isDeath) this.#deaths += 1;
    return { isDeath, freeSlot: isTaken ? null : owned };
  }

  /** Asks all to read anew what can change while they run. */
  reload(): void {
    for (const worker of this.#running) send(worker, { kind: 'reload' });
  }

  /**
   * Asks all to stop, and resolves when the last has ended, or was ended at the bound.
   *
   * @returns whether all have answered what they had
   */
  async stop(timeoutMs: number): Promise<boolean> {
    const busy = [...this.serving.values(), ...this.#retiring];
    await Promise.all(this.#running.map((worker) => terminate(worker, timeoutMs)));
    return busy.every((worker) => this.#drained.has(worker));
  }

  /** Collects once for all who ask meanwhile; `wanted` is how many should serve. */
  async collect(wanted: number): Promise<Family[]> {
    this.#collecting ??= this.#collect(wanted).finally(() => { this.#collecting = null; });
    return this.#collecting;
  }

  async #collect(wanted: number): Promise<Family[]> {
    const { counted, silent } = await this.#counts.collect(this.serving, this.#retiring);
    const seen = { wanted, listening: this.serving.size, silent, deaths: this.#deaths };
    return mergeFamilies([...counted, { worker: 0, families: workersFamilies(seen) }]);
  }
}

async function terminate(worker: Worker, timeoutMs: number): Promise<void> {
  if (!worker.isDead()) worker.process.kill('SIGTERM');
  await waitForExit(worker, timeoutMs);
}

/** Resolves when a worker has ended, or was ended at the bound. */
async function waitForExit(worker: Worker, timeoutMs: number): Promise<void> {
  if (worker.isDead()) return;
  const bound = setTimeout(() => worker.process.kill('SIGKILL'), timeoutMs);
  await once(worker, 'exit');
  clearTimeout(bound);
}
