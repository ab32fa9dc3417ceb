/** Several processes on one port: the kernel and node:cluster hand them the connections. */
import cluster from 'node:cluster';
import type { Worker } from 'node:cluster';
import { CrashLoop } from './crash-loop.ts';
import type { NoteSignal } from '../log/event-log.ts';
import type { LogRelay } from '../log/relay.ts';
import type { Family } from '../../metrics/families.ts';
import type { OneAtATime, Reloads } from './reload.ts';
import { rollOver } from './rolling-restart.ts';
import type { RollNote } from './rolling-restart.ts';
import { DRAIN_TIMEOUT_MS, RETIRE_TIMEOUT_MS, WORKER_GRACE_MS } from './shutdown.ts';
import { Crew, WorkerError } from './worker-pool.ts';

/** Processes that serve. */
type Workers = Readonly<{
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
type WorkersOptions = Readonly<{
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
async function startWorkers(options: WorkersOptions): Promise<Workers> {
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

/** What answers requests. */
export type Listener = Readonly<{
  port: number;
  /** Whether every process that shall answer requests does. */
  isComplete: () => boolean;
  /** What all of them have counted. */
  collect: () => Promise<Family[]>;
  /** Rejects when they cannot be kept running; never resolves. */
  failed: Promise<never>;
  /** Resolves with whether all that was in flight has been answered. */
  close: (timeoutMs: number) => Promise<boolean>;
}>;

/** What signals ask of a process that serves. */
export type Requests = Readonly<{
  stop: AbortSignal;
  reloads: Reloads;
  rolls: OneAtATime;
  /** Is told what they have led to. */
  note: NoteSignal;
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
  { reloads, rolls, note }: Requests,
): Promise<Listener> {
  const retireTimeoutMs = RETIRE_TIMEOUT_MS + DRAIN_TIMEOUT_MS + WORKER_GRACE_MS;
  const workers = await startWorkers({ count, retireTimeoutMs, note, relay });
  reloads.handOnTo(workers.reload);
  rolls.begin(workers.roll);
  // A worker drains by itself within the bound; ending it comes after.
  return { ...workers, close: (timeoutMs) => workers.stop(timeoutMs + WORKER_GRACE_MS) };
}
