/** SIGINT and SIGTERM as one request to stop. */
import { describeError } from '../log/log.ts';
import type { Log } from '../log/log.ts';

/** In-flight requests have this long to be answered when otpd is asked to stop. */
export const DRAIN_TIMEOUT_MS = 10_000;

/** Then messages that are being sent have this long, which is enough for one attempt. */
export const DELIVERY_TIMEOUT_MS = 9000;

/** And what is left of the log, this long. */
export const LOG_TIMEOUT_MS = 1000;

/** A worker that has drained still closes its connections to the database. */
export const WORKER_GRACE_MS = DELIVERY_TIMEOUT_MS + LOG_TIMEOUT_MS + 2000;

/** So long a worker that is replaced serves the connections that it has: longer than idle ones. */
export const RETIRE_TIMEOUT_MS = 10_000;

/** A stop that has not come to its end by then is given up. */
export const STOP_TIMEOUT_MS = 24_500;

/** The reason of the abort: work that it breaks off ends quietly. */
export class Stopped extends Error {
  override name = 'Stopped';
}

/** npm hands a terminal's Ctrl-C on to a process that has it already: that is one request. */
const SAME_REQUEST_MS = 1000;

/**
 * Listens for SIGINT and SIGTERM.
 *
 * @returns a signal that is aborted by the first of them; a later one ends the process with 1, and
 *   so does the end of the time that a stop may take
 */
export function listenForStop(): AbortSignal {
  const controller = new AbortController();
  let mayForce = false;
  const onSignal = (): void => {
    if (mayForce) process.exit(1);
    if (controller.signal.aborted) return;
    setTimeout(() => { mayForce = true; }, SAME_REQUEST_MS).unref();
    setTimeout(() => process.exit(1), STOP_TIMEOUT_MS).unref();
    controller.abort(new Stopped());
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return controller.signal;
}

/** Resolves once a signal is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
}

/** How long the last lines may take when nobody reads them. */
const FLUSH_TIMEOUT_MS = 500;

/** From now on the process ends with 1 at the first such error, also one of a promise. */
export function endOnUncaught(log: Log): void {
  let isEnding = false;
  process.on('uncaughtException', (error) => {
    log.log('error', 'sys_crash', describeError(error, true));
    if (isEnding) return;
    isEnding = true;
    void log.flush(FLUSH_TIMEOUT_MS).then(() => process.exit(1));
  });
}
