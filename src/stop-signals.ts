/** SIGINT and SIGTERM as one request to stop. */
import { STOP_TIMEOUT_MS } from './stop-times.ts';

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

/** The reason of the abort: work that it breaks off ends quietly. */
export class Stopped extends Error {
  override name = 'Stopped';
}
