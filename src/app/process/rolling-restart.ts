/** The rolling restart: every worker is replaced, and there are never fewer than all of them. */
import { CoalescingRunner } from './reload.ts';
import type { WorkerPool } from './worker-pool.ts';

/** What is told of a rolling restart, for the log. */
export type RollEvent =
  | Readonly<{ event: 'roll_started' | 'roll_finished' }>
  | Readonly<{ event: 'worker_replaced'; worker: number }>
  | Readonly<{ event: 'roll_failed'; worker: number; error: unknown }>
  | Readonly<{ event: 'roll_refused'; error: unknown }>;

type RollDeps = Readonly<{
  pool: WorkerPool;
  slots: readonly number[];
  onEvent: (event: RollEvent) => void;
  isStopping: () => boolean;
}>;

/**
 * Replaces the workers one after the other: the next one begins when the last old one has ended,
 * so that there is never more than one beyond those that are wanted. A new worker that does not
 * come up ends it: the old ones serve on. Never rejects.
 */
export async function rollWorkers({ pool, slots, onEvent, isStopping }: RollDeps): Promise<void> {
  if (isStopping()) return;
  onEvent({ event: 'roll_started' });
  for (const worker of slots) {
    try {
      await pool.startWorker(worker);
    } catch (error) {
      if (!isStopping()) onEvent({ event: 'roll_failed', worker, error });
      return;
    }
    onEvent({ event: 'worker_replaced', worker });
    await pool.drainReplaced();
    if (isStopping()) return;
  }
  onEvent({ event: 'roll_finished' });
}

/** What is told where there is nobody who could serve meanwhile. */
export const ROLL_REFUSED: RollEvent = Object.freeze({
  event: 'roll_refused', error: 'a rolling restart needs WORKERS of 2 or more',
});

/** Listens for SIGUSR2, which ends the process no more, as requests for a rolling restart. */
export function listenForRoll(): CoalescingRunner {
  const runner = new CoalescingRunner();
  process.on('SIGUSR2', () => runner.request());
  return runner;
}
