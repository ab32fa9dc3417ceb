/** How long, how large and how many: the bounds of connections and requests. */

/** The limits of the connections: milliseconds, bytes and counts. */
export type HttpLimits = Readonly<{
  headersTimeoutMs: number;
  requestTimeoutMs: number;
  keepAliveTimeoutMs: number;
  stalledTimeoutMs: number;
  checkIntervalMs: number;
  headersMaxBytes: number;
  connectionsMax: number;
  requestsMax: number;
}>;

/** The limits in production; tests shorten them. */
export const HTTP_LIMITS: HttpLimits = Object.freeze({
  // A silent socket is one whose header section never comes: the same limit ends it.
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 15_000,
  keepAliveTimeoutMs: 5_000,
  // A client that does not read its answers; well over the slowest answer.
  stalledTimeoutMs: 30_000,
  // How late a time-out may be noticed.
  checkIntervalMs: 500,
  headersMaxBytes: 16 * 1024,
  // About 10 KiB each: 100 MiB at the worst.
  connectionsMax: 10_000,
  requestsMax: 10_000,
});

/** The limits of the second listener, which a few probes ask. */
export const ADMIN_LIMITS: HttpLimits = Object.freeze({
  ...HTTP_LIMITS, connectionsMax: 100, requestsMax: 100,
});
