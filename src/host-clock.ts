/** The clock of this machine, which only `otpd doctor` reads: to hold it against the database's. */
import type { Instant } from './db/instant.ts';

const MICROSECONDS_PER_MILLISECOND = 1000;

/** What this machine takes for the time. */
export function readHostClock(): Instant {
  return Date.now() * MICROSECONDS_PER_MILLISECOND;
}
