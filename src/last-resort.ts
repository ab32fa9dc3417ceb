/** The last resort: an error that nobody caught is logged and ends the process (ASVS 16.5.4). */
import { describeError } from './log.ts';
import type { Log } from './log.ts';

/** How long the last lines may take when nobody reads them. */
const FLUSH_TIMEOUT_MS = 500;

/** From now on the process ends with 1 at the first such error, also one of a promise. */
export function endOnUncaught(log: Log): void {
  let isEnding = false;
  process.on('uncaughtException', (error) => {
    log.tell('error', 'sys_crash', describeError(error, true));
    if (isEnding) return;
    isEnding = true;
    void log.flush(FLUSH_TIMEOUT_MS).then(() => process.exit(1));
  });
}
