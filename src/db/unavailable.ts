/**
 * The database cannot answer now: away, full, too slow or stopping. Nothing of the failed work
 * took effect, or its outcome is unknown and the client may repeat it with its key.
 */
export class Unavailable extends Error {
  /** Whole seconds after which a client may try again. */
  readonly retryAfterSeconds: number;

  /**
   * @param reason what failed, for the log; never shown to a client
   * @param options the error behind it, and the seconds to name in Retry-After
   */
  constructor(reason: string, options: { cause?: unknown; retryAfterSeconds?: number } = {}) {
    super(reason, { cause: options.cause });
    this.name = 'Unavailable';
    this.retryAfterSeconds = options.retryAfterSeconds ?? 1;
  }
}
