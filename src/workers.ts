/** Several processes on one port: the kernel and node:cluster hand them the connections. */
import cluster from 'node:cluster';
import type { Worker } from 'node:cluster';
import { Crew, WorkerError } from './crew.ts';
import { CrashLoop } from './db/local/crash-loop.ts';
import type { Family } from './db/metrics/family.ts';
import type { LogRelay } from './log-relay.ts';
import { rollOver } from './roll.ts';
import type { RollNote } from './roll.ts';

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
  /** Puts a new process in the place of each, one after the other. Never rejects. */
  roll: () => Promise<void>;
  /**
   * Asks all to stop, and resolves when the last has ended, or was ended at the bound: with
   * whether all have answered what they had.
   */
  stop: (timeoutMs: number) => Promise<boolean>;
}>;

/** What workers are started with. */
export type WorkersOptions = Readonly<{
  count: number;
  /** What a worker may take to end when another has taken its place. */
  retireTimeoutMs: number;
  /** Is told of rolling restarts. */
  note: (note: RollNote) => void;
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
export async function startWorkers(options: WorkersOptions): Promise<Workers> {
  const { count, retireTimeoutMs, note, relay } = options;
  const places = Array.from({ length: count }, (_, index) => index + 1);
  const crew = new Crew(retireTimeoutMs, relay);
  const crashes = new CrashLoop(DEATHS_MAX);
  let isStopping = false;
  let fail: (error: Error) => void = () => {};
  const failed = new Promise<never>((_, reject) => { fail = reject; });
  failed.catch(() => {});

  const stop = (timeoutMs: number): Promise<boolean> => {
    isStopping = true;
    return crew.stop(timeoutMs);
  };
  try {
    await Promise.all(places.map((place) => crew.fill(place)));
  } catch (error) {
    await stop(0);
    throw error;
  }
  cluster.on('exit', (worker: Worker) => {
    const { isDeath, vacancy } = crew.noteEnd(worker);
    if (isStopping) return;
    if (isDeath && crashes.noteDeath()) fail(new WorkerError(CRASH_LOOP));
    // One that ends before it listens ends here again.
    else if (vacancy !== null) crew.fill(vacancy).catch(() => {});
  });
  return {
    port: crew.port,
    failed,
    isComplete: () => crew.serving.size === count,
    collect: () => crew.collect(count),
    reload: () => crew.reload(),
    roll: () => rollOver({ crew, places, note, isStopping: () => isStopping }),
    stop,
  };
}
