/** Rolling restart on SIGUSR2: replaces every worker, and never has fewer than WORKERS. */
import { CoalescingRunner } from './reload.ts';

/** The log events of a rolling restart. */
export type RollEvent =
  | Readonly<{ event: 'roll_started' | 'roll_finished' }>
  | Readonly<{ event: 'worker_replaced'; worker: number }>
  | Readonly<{ event: 'roll_failed'; worker: number; error: unknown }>
  | Readonly<{ event: 'roll_refused'; error: unknown }>;

type RollDeps = Readonly<{
  /** Starts a worker that takes the slot of another. */
  replace: (slot: number) => Promise<void>;
  /** Waits until the replaced workers have exited. */
  drainReplaced: () => Promise<void>;
  slots: readonly number[];
  onEvent: (event: RollEvent) => void;
  isStopping: () => boolean;
}>;

/**
 * Replaces the workers one at a time. The next replacement starts when the old worker has exited,
 * so at most one process exists beyond WORKERS. A new worker that fails to start ends the rolling
 * restart, and the remaining old workers keep serving. Never rejects.
 */
export async function rollWorkers(deps: RollDeps): Promise<void> {
  const { replace, drainReplaced, slots, onEvent, isStopping } = deps;
  if (isStopping()) return;
  onEvent({ event: 'roll_started' });
  for (const worker of slots) {
    try {
      await replace(worker);
    } catch (error) {
      if (!isStopping()) onEvent({ event: 'roll_failed', worker, error });
      return;
    }
    onEvent({ event: 'worker_replaced', worker });
    await drainReplaced();
    if (isStopping()) return;
  }
  onEvent({ event: 'roll_finished' });
}

/** With a single process, no other could answer during the restart. */
export const ROLL_REFUSED: RollEvent = Object.freeze({
  event: 'roll_refused', error: 'a rolling restart needs WORKERS of 2 or more',
});

/** Listens for SIGUSR2, which no longer terminates the process. */
export function listenForRoll(): CoalescingRunner {
  const runner = new CoalescingRunner();
  process.on('SIGUSR2', () => runner.request());
  return runner;
}
