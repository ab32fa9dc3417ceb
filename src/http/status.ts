/**
 * The one table from what happened to the HTTP status that says so (contract, all routes and
 * "Errors"). The names of failures are the `error` member of their bodies.
 */
export const STATUS = Object.freeze({
  issued: 201,
  verified: 200,
  known: 200,
  canceled: 204,
  invalid_request: 400,
  unauthorized: 401,
  invalid_code: 401,
  forbidden: 403,
  not_found: 404,
  otp_not_found: 404,
  method_not_allowed: 405,
  request_timeout: 408,
  code_used: 410,
  code_expired: 410,
  payload_too_large: 413,
  unsupported_media_type: 415,
  expectation_failed: 417,
  idempotency_key_reused: 422,
  too_many_attempts: 429,
  rate_limit_exceeded: 429,
  headers_too_large: 431,
  internal: 500,
  unavailable: 503,
  // Of the second listener.
  alive: 200,
  ready: 200,
  metrics: 200,
  not_ready: 503,
} as const);

/** Everything a request can end in. */
export type Code = keyof typeof STATUS;

/** The codes that are failures: the values of the `error` member. */
export type ErrorCode = Exclude<
  Code, 'issued' | 'verified' | 'known' | 'canceled' | 'alive' | 'ready' | 'metrics'
>;

/** What only the second listener answers. */
export type AdminCode = 'alive' | 'ready' | 'metrics' | 'not_ready';
