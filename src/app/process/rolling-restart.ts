/** The rolling restart: every worker is replaced, and there are never fewer than all of them. */
import { OneAtATime } from './reload.ts';
import type { Crew } from './worker-pool.ts';

/** What is told of a rolling restart, for the log. */
export type RollNote =
  | Readonly<{ event: 'roll_started' | 'roll_finished' }>
  | Readonly<{ event: 'worker_replaced'; worker: number }>
  | Readonly<{ event: 'roll_failed'; worker: number; error: unknown }>
  | Readonly<{ event: 'roll_refused'; error: unknown }>;

type RollParts = Readonly<{
  crew: Crew;
  places: readonly number[];
  note: (note: RollNote) => void;
  isStopping: () => boolean;
}>;

/**
 * Replaces the workers one after the other: the next one begins when the last old one has ended,
 * so that there is never more than one beyond those that are wanted. A new worker that does not
 * come up ends it: the old ones serve on. Never rejects.
 */
export async function rollOver({ crew, places, note, isStopping }: RollParts): Promise<void> {
  if (isStopping()) return;
  note({ event: 'roll_started' });
  for (const worker of places) {
    try {
      await crew.fill(worker);
    } catch (error) {
      if (!isStopping()) note({ event: 'roll_failed', worker, error });
      return;
    }
    note({ event: 'worker_replaced', worker });
    await crew.retire();
    if (isStopping()) return;
  }
  note({ event: 'roll_finished' });
}

/** What is told where there is nobody who could serve meanwhile. */
export const ROLL_ALONE: RollNote = Object.freeze({
  event: 'roll_refused', error: 'a rolling restart needs WORKERS of 2 or more',
});

/** Listens for SIGUSR2, which ends the process no more, as requests for a rolling restart. */
export function listenForRoll(): OneAtATime {
  const rolls = new OneAtATime();
  process.on('SIGUSR2', () => rolls.request());
  return rolls;
}
