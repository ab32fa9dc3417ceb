/** The one clock: the database's. */
import { parseInstant } from './instant.ts';
import type { Instant } from './instant.ts';
import type { Query } from './query.ts';

/**
 * Reads the clock. Must come after the locks of the transaction, in the order of its statements:
 * NOW(6) is the time at which its statement started.
 */
export const READ_CLOCK: Query<Instant> = Object.freeze({
  name: 'clock.read',
  sql: 'SELECT NOW(6) AS now',
  values: [],
  read: (rows) => parseInstant(rows[0]?.now as string),
});
