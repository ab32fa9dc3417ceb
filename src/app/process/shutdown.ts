/**
 * The end of a process: on SIGINT or SIGTERM within bounds, or on an uncaught error; and a bound on
 * how often a process may die and be started again.
 */
import { describeError } from '../log/log.ts';
import type { Log } from '../log/log.ts';

/** Time for answering the requests in flight, counted from the request to stop. */
export const DRAIN_TIMEOUT_MS = 10_000;

/** Time after that for the messages being sent; one attempt takes less. */
export const DELIVERY_TIMEOUT_MS = 9000;

/** Time after that for the rest of the log. */
export const LOG_TIMEOUT_MS = 1000;

/** Time that a drained worker needs for messages, the log and its database connections. */
export const WORKER_GRACE_MS = DELIVERY_TIMEOUT_MS + LOG_TIMEOUT_MS + 2000;

/** Drain time of a replaced worker, which closes its idle connections after a second. */
export const RETIRE_TIMEOUT_MS = 10_000;

/** Bound of a whole stop, after which the process exits with 1. Exceeds the sum of its steps. */
export const STOP_TIMEOUT_MS = 24_500;

/** The reason for an abort by a signal. Work interrupted for this reason has not failed. */
export class Stopped extends Error {
  override name = 'Stopped';
}

/**
 * On Ctrl-C the terminal signals npm and otpd, and npm passes the signal on. Both signals within
 * this time are one request.
 */
const SAME_REQUEST_MS = 1000;

/**
 * Listens for SIGINT and SIGTERM.
 *
 * @returns a signal that the first of them aborts. A second one ends the process with 1, and so
 *   does STOP_TIMEOUT_MS
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

export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
}

/** Time for the last log lines when their reader is stuck. */
const FLUSH_TIMEOUT_MS = 500;

/** Ends the process with 1 at the first uncaught error or unhandled rejection, and logs it. */
export function endOnUncaught(log: Log): void {
  let isEnding = false;
  process.on('uncaughtException', (error) => {
    log.log('error', 'sys_crash', describeError(error, true));
    if (isEnding) return;
    isEnding = true;
    void log.flush(FLUSH_TIMEOUT_MS).then(() => process.exit(1));
  });
}

const DEATHS_WINDOW_MS = 60_000;

/** Counts deaths within the last minute. Above the bound, restarting only hides the cause. */
export class CrashLoop {
  readonly #deathsMax: number;
  #deaths = 0;

  constructor(deathsMax: number) {
    this.#deathsMax = deathsMax;
  }

  /** Returns true when the bound is exceeded. */
  recordDeath(): boolean {
    this.#deaths += 1;
    setTimeout(() => { this.#deaths -= 1; }, DEATHS_WINDOW_MS).unref();
    return this.#deaths > this.#deathsMax;
  }
}
