/** How long to wait before the next attempt: longer each time, and never two processes in step. */
import { randomInt } from 'node:crypto';

const FIRST_MS = 250;
const LAST_MS = 15_000;

/**
 * Milliseconds to wait: doubled each time up to 15 s, of which a random half.
 *
 * @param times how often was waited before
 */
export function backoffMs(times: number): number {
  const most = Math.min(LAST_MS, FIRST_MS * 2 ** Math.min(times, 10));
  return most / 2 + randomInt(most / 2);
}
