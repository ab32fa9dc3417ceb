/**
 * The response of a request as a plain value, and the constructors of those answers that more
 * than one place gives. Nothing here touches a response; respond.ts writes an Answer out.
 */
import { Buffer } from 'node:buffer';
import type { ServerResponse } from 'node:http';
import { Unavailable } from '../db/errors.ts';

/** A complete response; the status follows from `code`. */
export type HttpResponse = Readonly<{
  code: ResponseCode;
  /** The whole body, JSON text unless a type is named; '' when the status allows none. */
  body: string;
  contentType?: string;
  /** Header names and values in turn, beyond those that every response carries. */
  headers: readonly string[];
  /** True when the connection must not be used again. */
  close: boolean;
  /** The error behind a 500 or 503: for the log, never for the client. */
  error?: unknown;
  context?: LogContext;
}>;

/** Whom and what a request was about, as far as it is known: for the log alone. */
export type LogContext = Readonly<{
  userId?: string;
  purpose?: string;
  otpId?: string;
  /** The part of the request that is at fault. */
  field?: string;
  /** It was answered with the stored response of an earlier request. */
  isReplay?: boolean;
  /** A lock began with it. */
  locks?: boolean;
}>;

/** What is wrong with one part of a request: the members of a 400 (contract, "Errors"). */
export type FieldError = Readonly<{ field: string; message: string }>;

/** Seconds to name when the service sheds load: the shortest wait that the header can say. */
export const SHED_RETRY_SECONDS = 1;

const NO_HEADERS: readonly string[] = Object.freeze([]);

/**
 * A failure whose body is its code and the given members, in their order.
 *
 * @param headers header names and values in turn
 */
export function errorResponse(
  code: ErrorCode,
  members: object | null = null,
  headers: readonly string[] = NO_HEADERS,
): HttpResponse {
  return { code, body: JSON.stringify({ error: code, ...members }), headers, close: false };
}

/** A failure after which the connection is closed: its framing cannot be trusted any more. */
export function closingErrorResponse(code: ErrorCode): HttpResponse {
  return { ...errorResponse(code), close: true };
}

/**
 * 405: the route is there, but not for this method (RFC 9110, 15.5.6).
 *
 * @param allow the methods of the route, as they are listed in Allow
 */
export function methodNotAllowed(allow: string): HttpResponse {
  return errorResponse('method_not_allowed', null, ['Allow', allow]);
}

/** 400 for one field of the body or for the key, with what it must be (contract, "Errors"). */
export function invalidField(
  error: FieldError,
  headers: readonly string[] = NO_HEADERS,
): HttpResponse {
  const { field, message } = error;
  return { ...errorResponse('invalid_request', { field, message }, headers), context: { field } };
}

/**
 * 429 or 503: says in the body and, with the same number, in Retry-After when to come again
 * (contract, "Headers"). The body of `unavailable` names no number.
 *
 * @param seconds whole seconds
 */
export function retryLater(
  code: 'too_many_attempts' | 'rate_limit_exceeded' | 'unavailable',
  seconds: number,
  headers: readonly string[] = NO_HEADERS,
): HttpResponse {
  const retry = ['Retry-After', String(seconds), ...headers];
  if (code === 'unavailable') return errorResponse(code, null, retry);
  const member = code === 'rate_limit_exceeded' ? 'remaining_cooldown_seconds'
    : 'retry_after_seconds';
  return errorResponse(code, { [member]: seconds }, retry);
}

/**
 * The response to an error of the operation: `unavailable` when the database cannot response now,
 * else `internal`. The error travels along in `fault` and is shown to nobody but the log.
 */
export function responseForError(
  error: unknown,
  headers: readonly string[] = NO_HEADERS,
): HttpResponse {
  const response = error instanceof Unavailable
    ? retryLater('unavailable', error.retryAfterSeconds, headers)
    : errorResponse('internal', null, headers);
  return { ...response, error };
}

/** The same response with further headers. */
export function withHeaders(response: HttpResponse, headers: readonly string[]): HttpResponse {
  return headers.length === 0 ? response
    : { ...response, headers: [...response.headers, ...headers] };
}
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
export type ResponseCode = keyof typeof STATUS;

/** The codes that are failures: the values of the `error` member. */
export type ErrorCode = Exclude<
  ResponseCode, 'issued' | 'verified' | 'known' | 'canceled' | 'alive' | 'ready' | 'metrics'
>;

/** What only the second listener answers. */
export type AdminCode = 'alive' | 'ready' | 'metrics' | 'not_ready';

/** The items of the list below that speak of content: two names, two values. */
const CONTENT_ITEMS = 4;

/**
 * Writes an response in one piece: status line, headers and body. Node adds Date and, on a
 * connection that stays open, Keep-Alive; it leaves the body out for HEAD (RFC 9110, 9.3.2). An
 * response without a body says nothing of content (RFC 9110, 8.6).
 *
 * @param res a response that nothing has been written to
 * @param requestId the value of X-Request-Id
 * @param close whether this is the last response on its connection
 */
export function writeResponse(
  res: ServerResponse,
  response: HttpResponse,
  requestId: string,
  close: boolean,
): void {
  // The headers of every response (contract, "Headers"; OWASP REST cheat sheet for the CSP).
  const headers = [
    'Content-Type', response.contentType ?? 'application/json',
    'Content-Length', String(Buffer.byteLength(response.body)),
    'X-Request-Id', requestId,
    'Cache-Control', 'no-store',
    'X-Content-Type-Options', 'nosniff',
    'Content-Security-Policy', "frame-ancestors 'none'",
    ...response.headers,
  ];
  if (response.body === '') headers.splice(0, CONTENT_ITEMS);
  if (close) headers.push('Connection', 'close');
  res.writeHead(STATUS[response.code], headers);
  res.end(response.body);
}
