/** What answers requests: a listener of this process, or workers with one each. */
import type { Family } from './db/metrics/family.ts';
import type { LogRelay } from './log-relay.ts';
import type { OneAtATime } from './one-at-a-time.ts';
import type { Reloads } from './reload.ts';
import type { NoteSignal } from './signal-log.ts';
import { DRAIN_TIMEOUT_MS, RETIRE_TIMEOUT_MS, WORKER_GRACE_MS } from './stop-times.ts';
import { startWorkers } from './workers.ts';

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
