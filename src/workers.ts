/** Several processes on one port: the kernel and node:cluster hand them the connections. */
import cluster from 'node:cluster';
import type { Worker } from 'node:cluster';
import { once } from 'node:events';
import type { Family } from './db/metrics/family.ts';
import { mergeCounted } from './db/metrics/merge.ts';
import { WorkerCounts, workersFamilies } from './worker-metrics.ts';

/** Processes that serve. */
export type Workers = Readonly<{
  /** The port that they share. */
  port: number;
  /** Rejects when they keep ending; never resolves. */
  failed: Promise<never>;
  /** Whether all that were asked for accept connections. */
  isComplete: () => boolean;
  /** What all have counted, added up; those that have ended are in it. */
  collect: () => Promise<Family[]>;
  /** Asks all to read anew what can change while they run, those that start right after that. */
  reload: () => void;
  /** Asks all to stop and resolves when the last has ended, or was ended at the bound. */
  stop: (timeoutMs: number) => Promise<void>;
}>;

/** More deaths than this within a minute are a crash loop, which must not be hidden. */
const DEATHS_MAX = 10;
const CALM_MS = 60_000;

/** A message, not a signal: it waits for a worker that is starting, which a signal would end. */
const RELOAD = Object.freeze({ kind: 'reload' });

/** True in a process that was started by startWorkers. */
export function isWorker(): boolean {
  return cluster.isWorker;
}

/** Calls back in a worker whenever its first process asks it to reload. */
export function onReloadAsked(reload: () => void): void {
  process.on('message', (message: typeof RELOAD) => {
    if (message?.kind === RELOAD.kind) reload();
  });
}

/**
 * Starts processes that run the same command line as this one, and starts another for each that
 * ends by itself.
 *
 * @param count how many
 * @throws Error when one ends before it listens
 */
export async function startWorkers(count: number): Promise<Workers> {
  let isStopping = false;
  let deaths = 0;
  let fail: (error: Error) => void = () => {};
  const failed = new Promise<never>((_, reject) => { fail = reject; });
  failed.catch(() => {});

  const crew = new Crew();
  const replace = (worker: Worker): void => {
    const number = crew.noteEnd(worker);
    if (isStopping || number === undefined) return;
    crew.deaths += 1;
    deaths += 1;
    setTimeout(() => { deaths -= 1; }, CALM_MS).unref();
    if (deaths > DEATHS_MAX) fail(new Error('the workers keep ending by themselves'));
    else crew.fork(number);
  };

  const stop = async (timeoutMs: number): Promise<void> => {
    isStopping = true;
    const workers = Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined);
    const bound = setTimeout(() => workers.forEach((worker) => worker.process.kill('SIGKILL')),
      timeoutMs);
    await Promise.all(workers.map(stopWorker));
    clearTimeout(bound);
  };

  const ports = Array.from({ length: count }, (_, index) => listening(crew.fork(index + 1)));
  try {
    const [port] = await Promise.all(ports);
    cluster.on('exit', replace);
    const isComplete = () => crew.listening.size === count;
    const collect = () => crew.collect(count);
    return { port: port!, failed, isComplete, collect, reload: () => crew.reload(), stop };
  } catch (error) {
    await stop(0);
    throw error;
  }
}

async function listening(worker: Worker): Promise<number> {
  const ended = once(worker, 'exit').then(() => {
    throw new Error('a worker ended before it listened; its message is above');
  });
  const [{ port }] = await Promise.race([once(worker, 'listening'), ended]) as [{ port: number }];
  ended.catch(() => {});
  return port;
}

async function stopWorker(worker: Worker): Promise<void> {
  if (worker.isDead()) return;
  const exit = once(worker, 'exit');
  worker.process.kill('SIGTERM');
  await exit;
}

/** The workers by number: one that takes the place of another has its number. */
class Crew {
  /** Those that accept connections. */
  readonly listening = new Map<number, Worker>();
  deaths = 0;
  readonly #numbers = new Map<Worker, number>();
  readonly #counts = new WorkerCounts();
  #collecting: Promise<Family[]> | null = null;

  /** Starts a worker. */
  fork(number: number): Worker {
    const worker = cluster.fork();
    this.#numbers.set(worker, number);
    worker.once('listening', () => this.listening.set(number, worker));
    return worker;
  }

  /** Strikes a worker off; gives its number. */
  noteEnd(worker: Worker): number | undefined {
    const number = this.#numbers.get(worker);
    if (number === undefined) return undefined;
    this.#numbers.delete(worker);
    this.listening.delete(number);
    this.#counts.noteEnd(number);
    return number;
  }

  /** Hands a request to reload on. */
  reload(): void {
    for (const worker of this.#numbers.keys()) worker.send(RELOAD, () => {});
  }

  /** Collects once for all who ask meanwhile. */
  async collect(wanted: number): Promise<Family[]> {
    this.#collecting ??= this.#collect(wanted).finally(() => { this.#collecting = null; });
    return this.#collecting;
  }

  async #collect(wanted: number): Promise<Family[]> {
    const { counted, silent } = await this.#counts.ask(this.listening);
    const seen = { wanted, listening: this.listening.size, silent, deaths: this.deaths };
    return mergeCounted([...counted, { worker: 0, families: workersFamilies(seen) }]);
  }
}
