/** What the first process and its workers say to each other. */
import type { Worker } from 'node:cluster';
import type { Family, FamilySource } from '../../metrics/families.ts';

/**
 * What the first process asks of a worker. A message, not a signal: it waits for a worker that is
 * starting, which a signal would end.
 * - `count`: to say what it has counted.
 * - `reload`: to read anew what can change while it runs.
 * - `retire`: to end, for another has its place, and to keep no client waiting for an answer.
 * - `leave`: to be gone: it was heard that it has nothing left to do.
 */
type PrimaryMessage =
  | Readonly<{ kind: 'count'; number: number }>
  | Readonly<{ kind: 'reload' }>
  | Readonly<{ kind: 'retire' }>
  | Readonly<{ kind: 'leave' }>;

/** What a worker says: what it has counted, when it is asked, and when nothing more will come. */
export type WorkerMessage =
  | Readonly<{ kind: 'counted'; number: number; families: readonly Family[] }>
  | Readonly<{ kind: 'leaving' } & FinalReport>;

/** The last that a worker says. */
type FinalReport = Readonly<{
  /** Whether all that was in flight has been answered. */
  isAnswered: boolean;
  families: readonly Family[];
}>;

/** Asks something of a worker; one that is gone hears nothing. */
export function send(worker: Worker, message: PrimaryMessage): void {
  worker.send(message, () => {});
}

/** Calls back in a worker whenever that is asked of it. */
export function onMessage<K extends PrimaryMessage['kind']>(
  kind: K,
  handle: (message: Extract<PrimaryMessage, { kind: K }>) => void,
): void {
  process.on('message', (message: PrimaryMessage) => {
    if (message?.kind === kind) handle(message as Extract<PrimaryMessage, { kind: K }>);
  });
}

function sendToPrimary(message: WorkerMessage): void {
  // Without a callback a first process that is gone would be an error of this one.
  process.send?.(message, undefined, undefined, () => {});
}

/** Tells the first process what this worker has counted, whenever it asks. */
export function answerMetrics(source: FamilySource): void {
  onMessage('count', ({ number }) =>
    sendToPrimary({ kind: 'counted', number, families: source() }));
}

/**
 * Says that a worker has nothing left to do, and waits until it may go. The first process may have
 * handed it a connection before it knew that this one takes none: all that came before the first
 * process says `leave` has been handed back by then.
 */
export function sendFinalReport(report: FinalReport): Promise<void> {
  return new Promise((resolve) => {
    onMessage('leave', () => resolve());
    sendToPrimary({ kind: 'leaving', ...report });
  });
}
