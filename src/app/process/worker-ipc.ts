/** The messages between the primary process and its workers. */
import type { Worker } from 'node:cluster';
import type { Family, FamilySource } from '../../metrics/families.ts';

/**
 * A request to a worker. A message waits for a worker that is still starting; a signal would
 * terminate that worker. In a rolling restart both sides may be different versions of
 * otpd, so kinds and members must stay compatible.
 * - `count`: report the metrics.
 * - `reload`: reload the files, as on SIGHUP.
 * - `retire`: finish the open connections and exit; another worker has taken the slot.
 * - `leave`: exit; the final report has arrived.
 */
type PrimaryMessage =
  | Readonly<{ kind: 'count'; number: number }>
  | Readonly<{ kind: 'reload' }>
  | Readonly<{ kind: 'retire' }>
  | Readonly<{ kind: 'leave' }>;

/** The metrics that `count` asks for, or the final report. */
export type WorkerMessage =
  | Readonly<{ kind: 'counted'; number: number; families: readonly Family[] }>
  | Readonly<{ kind: 'leaving' } & FinalReport>;

type FinalReport = Readonly<{
  /** True when every request in flight was answered. */
  isAnswered: boolean;
  families: readonly Family[];
}>;

/** Sends a message; a worker that has exited does not receive it. */
export function send(worker: Worker, message: PrimaryMessage): void {
  worker.send(message, () => {});
}

export function onMessage<K extends PrimaryMessage['kind']>(
  kind: K,
  handle: (message: Extract<PrimaryMessage, { kind: K }>) => void,
): void {
  process.on('message', (message: PrimaryMessage) => {
    if (message?.kind === kind) handle(message as Extract<PrimaryMessage, { kind: K }>);
  });
}

function sendToPrimary(message: WorkerMessage): void {
  // Without a callback, a primary process that has exited would cause an error event here.
  process.send?.(message, undefined, undefined, () => {});
}

export function answerMetrics(source: FamilySource): void {
  onMessage('count', ({ number }) =>
    sendToPrimary({ kind: 'counted', number, families: source() }));
}

/**
 * Reports that a worker is done, and waits for `leave`. In a rolling restart, a primary process of
 * an earlier version may have passed a connection to a worker that no longer accepts connections.
 * Messages keep their order, so the worker has handed it back by the time `leave` arrives.
 */
export function sendFinalReport(report: FinalReport): Promise<void> {
  return new Promise((resolve) => {
    onMessage('leave', () => resolve());
    sendToPrimary({ kind: 'leaving', ...report });
  });
}
