/**
 * Responses as plain values, the table from code to status, and the one function that writes a
 * response.
 */
import { Buffer } from 'node:buffer';
import type { ServerResponse } from 'node:http';
import { Unavailable } from '../db/errors.ts';
import type { LimitName } from '../otp/policy/policy.ts';

/** A complete response; STATUS maps its code to a status. */
export type HttpResponse = Readonly<{
  code: ResponseCode;
  /** JSON unless `contentType` says otherwise; '' for no content. */
  body: string | Buffer;
  contentType?: string;
  /** The Content-Security-Policy of a page; any other response only cannot be framed. */
  policy?: string;
  /** Names and values in turn, in addition to the headers of every response. */
  headers: readonly string[];
  /** True when the connection must close after this response. */
  close: boolean;
  /** The cause of a 500 or 503, which is logged and never sent. */
  error?: unknown;
  context?: LogContext;
}>;

/** The known facts of a request, for the log only. */
export type LogContext = Readonly<{
  userId?: string;
  purpose?: string;
  otpId?: string;
  /** The trusted device on which the code was verified, or that support revokes. */
  device?: string;
  /** The invalid field. */
  field?: string;
  /** The response is the stored one of an earlier request with the same key. */
  isReplay?: boolean;
  /** The user gets fixed codes and no message. */
  isTest?: boolean;
  /** The limits that refuse the request. */
  limitedBy?: readonly LimitName[];
  /** The request locked its pair or the account of its user. */
  locks?: boolean;
}>;

/** An invalid field: the members of a 400 (docs/api.md, "Errors"). */
export type FieldError = Readonly<{ field: string; message: string }>;

/** The shortest wait that Retry-After can express. */
export const SHED_RETRY_SECONDS = 1;

export const NO_HEADERS: readonly string[] = Object.freeze([]);

/** An error whose body has the code and then the given members. */
export function errorResponse(
  code: ErrorCode,
  members: object | null = null,
  headers: readonly string[] = NO_HEADERS,
): HttpResponse {
  return { code, body: JSON.stringify({ error: code, ...members }), headers, close: false };
}

/** An error after which the framing of the connection cannot be trusted. */
export function closingErrorResponse(code: ErrorCode): HttpResponse {
  return { ...errorResponse(code), close: true };
}

/** 405 with the methods of the route in Allow (RFC 9110, 15.5.6). */
export function methodNotAllowed(methods: readonly string[]): HttpResponse {
  const allow = methods.join(', ');
  const message = `use ${allow.replace(/, (\w+)$/, ' or $1')}`;
  return errorResponse('method_not_allowed', { message }, ['Allow', allow]);
}

/** 400 for a field of the body or a header (docs/api.md, "Errors"). */
export function invalidField(
  error: FieldError,
  headers: readonly string[] = NO_HEADERS,
): HttpResponse {
  const { field, message } = error;
  return { ...errorResponse('invalid_request', { field, message }, headers), context: { field } };
}

/**
 * 429 or 503 with the same number of whole seconds in Retry-After and in the body (docs/api.md,
 * "Headers"). The body of `unavailable` has no number.
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

/** `unavailable` when the database does not answer, else `internal`. The log gets the error. */
export function responseForError(
  error: unknown,
  headers: readonly string[] = NO_HEADERS,
): HttpResponse {
  const response = error instanceof Unavailable
    ? retryLater('unavailable', error.retryAfterSeconds, headers)
    : errorResponse('internal', null, headers);
  return { ...response, error };
}

export function withHeaders(response: HttpResponse, headers: readonly string[]): HttpResponse {
  return headers.length === 0 ? response
    : { ...response, headers: [...response.headers, ...headers] };
}

/** The one table from code to status. */
export const STATUS = Object.freeze({
  issued: 201,
  verified: 200,
  known: 200,
  described: 200,
  canceled: 204,
  reported: 204,
  preflight: 204,
  invalid_request: 400,
  unauthorized: 401,
  invalid_code: 401,
  forbidden: 403,
  account_locked: 403,
  origin_not_allowed: 403,
  not_found: 404,
  otp_not_found: 404,
  method_not_allowed: 405,
  request_timeout: 408,
  code_superseded: 410,
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
  // The admin listener.
  alive: 200,
  ready: 200,
  metrics: 200,
  page: 200,
  misdirected_request: 421,
  not_ready: 503,
  // Support on the admin listener.
  shown: 200,
  unlocked: 200,
  not_locked: 200,
  revoked: 200,
  user_not_found: 404,
} as const);

export type ResponseCode = keyof typeof STATUS;

/** The values of the `error` member. */
export type ErrorCode = Exclude<
  ResponseCode,
  | 'issued' | 'verified' | 'known' | 'described' | 'canceled' | 'reported' | 'preflight'
  | 'alive' | 'ready' | 'metrics' | 'page'
  | Exclude<SupportCode, 'user_not_found'>
>;

/** The codes of the admin listener that are not logged. */
export const ADMIN_CODES = Object.freeze(
  ['alive', 'ready', 'metrics', 'page', 'misdirected_request', 'not_ready'] as const);

export type AdminCode = (typeof ADMIN_CODES)[number];

export const SUPPORT_CODES = Object.freeze(
  ['shown', 'unlocked', 'not_locked', 'revoked', 'user_not_found'] as const);

type SupportCode = (typeof SUPPORT_CODES)[number];

/** The first items of the headers below describe the content: two names, two values. */
const CONTENT_ITEMS = 4;

/**
 * Writes a response in one piece. Node adds Date and, on a connection that stays open, Keep-Alive;
 * it omits the body for HEAD (RFC 9110, 9.3.2). A response without a body has no content headers
 * (RFC 9110, 8.6).
 */
export function writeResponse(
  res: ServerResponse,
  response: HttpResponse,
  requestId: string,
  close: boolean,
): void {
  // The headers of every response (docs/api.md, "Headers"; the CSP: OWASP REST cheat sheet).
  const headers = [
    'Content-Type', response.contentType ?? 'application/json',
    'Content-Length', String(Buffer.byteLength(response.body)),
    'X-Request-Id', requestId,
    'Cache-Control', 'no-store',
    'X-Content-Type-Options', 'nosniff',
    'Content-Security-Policy', response.policy ?? "frame-ancestors 'none'",
    ...response.headers,
  ];
  if (response.body === '') headers.splice(0, CONTENT_ITEMS);
  if (close) headers.push('Connection', 'close');
  res.writeHead(STATUS[response.code], headers);
  res.end(response.body);
}
