/** How long the parts of a stop may take: together well under the 30 s of most supervisors. */

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
