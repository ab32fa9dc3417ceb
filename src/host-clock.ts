/** The clock of this machine: for the times of the log, and for `otpd doctor`, which judges it. */
import type { Instant } from './db/instant.ts';

const MICROSECONDS_PER_MILLISECOND = 1000;

/** What this machine takes for the time. */
export function readHostClock(): Instant {
  return Date.now() * MICROSECONDS_PER_MILLISECOND;
}
