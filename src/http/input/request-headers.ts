/**
 * The header section of a request: one pass over its lines, and what can be decided from them
 * before a byte of the body is read.
 */
import type { IncomingMessage } from 'node:http';
import { closingErrorResponse, errorResponse } from '../response.ts';
import type { FieldError, HttpResponse } from '../response.ts';

/** The header lines that matter here; '' and an empty list stand for absent. */
export type RequestHeaders = {
  hosts: string[];
  contentTypes: string[];
  /** Every coding that is named, joined by commas as RFC 9110, 5.3 joins lines. */
  contentEncoding: string;
  transferEncoding: string;
  expect: string;
  acceptLanguage: string;
  forwardedFor: string;
  traceparent: string;
  /** Bytes, as the parser has checked; null when not declared. */
  contentLength: number | null;
  idempotencyKeys: string[];
  authorizations: string[];
  clientIps: string[];
  /** Whether another protocol is offered; it is never taken. */
  upgrade: boolean;
  requestIds: string[];
  /** More lines than are looked at: the rest is unknown. */
  overflow: boolean;
};

/** Header lines that are looked at: thrice what browsers and proxies send together. */
const HEADER_LINES_MAX = 100;

/** Characters of Accept-Language that are looked at: well over what browsers send. */
const LANGUAGES_MAX_CHARACTERS = 192;

/** Reads the header section; trailers do not count (RFC 9110, 6.5.1). */
export function readHeaders(req: IncomingMessage): RequestHeaders {
  const raw = req.rawHeaders;
  const headers: RequestHeaders = {
    hosts: [], contentTypes: [], contentEncoding: '', transferEncoding: '', expect: '',
    acceptLanguage: '', forwardedFor: '', traceparent: '', contentLength: null, idempotencyKeys: [],
    authorizations: [], clientIps: [], upgrade: false, requestIds: [],
    overflow: raw.length > 2 * HEADER_LINES_MAX,
  };
  const end = Math.min(raw.length, 2 * HEADER_LINES_MAX);
  for (let at = 0; at < end; at += 2) readLine(headers, raw[at] as string, raw[at + 1] as string);
  return headers;
}

function readLine(headers: RequestHeaders, name: string, value: string): void {
  switch (name.toLowerCase()) {
    case 'host': headers.hosts.push(value); break;
    case 'content-type': headers.contentTypes.push(value); break;
    case 'content-length': headers.contentLength = Number(value); break;
    case 'content-encoding': headers.contentEncoding = join(headers.contentEncoding, value); break;
    case 'transfer-encoding': headers.transferEncoding = join(headers.transferEncoding, value);
      break;
    case 'expect': headers.expect = join(headers.expect, value); break;
    case 'accept-language': headers.acceptLanguage = join(headers.acceptLanguage, value); break;
    case 'x-forwarded-for': headers.forwardedFor = join(headers.forwardedFor, value); break;
    case 'traceparent': headers.traceparent = join(headers.traceparent, value); break;
    case 'idempotency-key': headers.idempotencyKeys.push(value); break;
    case 'authorization': headers.authorizations.push(value); break;
    case 'x-client-ip': headers.clientIps.push(value); break;
    case 'upgrade': headers.upgrade = true; break;
    case 'x-request-id': headers.requestIds.push(value); break;
    default: break;
  }
}

function join(list: string, value: string): string {
  return list === '' ? value : `${list},${value}`;
}

/**
 * Whether the message can be taken for what it says it is (RFC 9112, 2.3, 3.2, 6.1). The parser
 * has refused the rest: CL with TE, differing lengths, obs-fold, bare CR.
 *
 * @returns 400 or 431 with the connection closed, or null
 */
export function framingError(req: IncomingMessage, headers: RequestHeaders): HttpResponse | null {
  if (headers.overflow) return closingErrorResponse('headers_too_large');
  const { httpVersionMajor: major, httpVersionMinor: minor } = req;
  if (major !== 1 || minor > 1) return closingErrorResponse('invalid_request');
  if (headers.transferEncoding !== '') {
    const isChunked = headers.transferEncoding.toLowerCase() === 'chunked';
    if (!isChunked || minor === 0) return closingErrorResponse('invalid_request');
  }
  const [host] = headers.hosts;
  const isMissing = host === undefined;
  if (headers.hosts.length > 1 || (isMissing ? minor === 1 : !isHost(host))) {
    return closingErrorResponse('invalid_request');
  }
  return null;
}

/** host [":" port] of RFC 3986, 3.2.2, not empty: http has no empty host (RFC 9110, 4.2.1). */
export function isHost(text: string): boolean {
  return /^(?:[\w.~!$&'()*+,;=%-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{0,5})?$/.test(text);
}

/**
 * Whether the content is one that can be read: JSON in UTF-8, not coded (RFC 9110, 15.5.16).
 *
 * @returns 415 with the header that says what would be taken, or null
 */
export function mediaTypeError(headers: RequestHeaders): HttpResponse | null {
  const [type] = headers.contentTypes;
  if (type === undefined || headers.contentTypes.length > 1 || !isJsonType(type)) {
    return errorResponse('unsupported_media_type', null, ['Accept', 'application/json']);
  }
  if (headers.contentEncoding !== '' && headers.contentEncoding.toLowerCase() !== 'identity') {
    return errorResponse('unsupported_media_type', null, ['Accept-Encoding', 'identity']);
  }
  return null;
}

/** `application/json`, alone or with charset=utf-8, in any letter case. */
function isJsonType(value: string): boolean {
  if (value === 'application/json') return true;
  const [type = '', ...parameters] = value.toLowerCase().split(';').map((part) => part.trim());
  const [parameter = 'charset=utf-8'] = parameters;
  return type === 'application/json' && parameters.length <= 1
    && (parameter === 'charset=utf-8' || parameter === 'charset="utf-8"');
}

/**
 * Accept-Language (RFC 9110, 12.5.4), of any content and bounded: a member that is over the bound
 * is left out as a whole, since half of it may be another language, or the same at another weight.
 */
export function acceptedLanguages({ acceptLanguage }: RequestHeaders): string {
  if (acceptLanguage.length <= LANGUAGES_MAX_CHARACTERS) return acceptLanguage;
  const end = acceptLanguage.lastIndexOf(',', LANGUAGES_MAX_CHARACTERS);
  return acceptLanguage.slice(0, Math.max(0, end));
}

/** A client's own request id, when it is one that can be repeated (OWASP ASVS 16.4.1). */
export function clientRequestId(headers: RequestHeaders): string | null {
  const [id] = headers.requestIds;
  if (id === undefined || headers.requestIds.length > 1) return null;
  return /^[A-Za-z0-9._-]{1,64}$/.test(id) ? id : null;
}

/** A version, a trace id, a parent id, flags; a later version may have more behind them. */
const TRACEPARENT = /^(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}/;
const TRACEPARENT_CHARACTERS = 55;

/** The Traceparent of a request, as far as it is known what it means; null when it is malformed. */
export function parseTraceparent({ traceparent }: RequestHeaders): string | null {
  const version = TRACEPARENT.exec(traceparent)?.[1];
  if (version === undefined) return null;
  const rest = traceparent.slice(TRACEPARENT_CHARACTERS);
  const isWhole = rest === '' || (version !== '00' && /^-[^,]*$/.test(rest));
  return isWhole ? traceparent.slice(0, TRACEPARENT_CHARACTERS) : null;
}

const KEY_MAX_CHARACTERS = 255;
const KEY_FIELD = 'Idempotency-Key';

const MALFORMED_KEY: FieldError = Object.freeze({
  field: KEY_FIELD,
  message: `must be 1 to ${KEY_MAX_CHARACTERS} printable ASCII characters,`
    + ' bare or as a quoted string',
});
const MISSING_KEY: FieldError = Object.freeze({ field: KEY_FIELD, message: 'is required' });
const REPEATED_KEY: FieldError = Object.freeze({ field: KEY_FIELD, message: 'must be sent once' });

/** Parameters after a structured-field string (RFC 9651, 3.1.2); they are ignored. */
const PARAMETERS =
  /^(?:; *[a-z*][a-z0-9_.*-]*(?:=(?:"(?:[ !#-[\]-~]|\\["\\])*"|[A-Za-z0-9?@:*/+=._%-]+))?)*$/;

/**
 * The key of a request.
 *
 * @param values the values of all Idempotency-Key lines of the header section, trailers left out
 * @returns the decoded key, or what is wrong with it
 */
export function requireIdempotencyKey(values: readonly string[]): string | FieldError {
  return parseIdempotencyKey(values) ?? MISSING_KEY;
}

/** As `requiredKeyOf`, but null when the header is absent. */
export function parseIdempotencyKey(values: readonly string[]): string | FieldError | null {
  if (values.length === 0) return null;
  if (values.length > 1) return REPEATED_KEY;
  const value = values[0] as string;
  const key = value.startsWith('"') ? decodeString(value) : value;
  if (key === null || key.length === 0 || key.length > KEY_MAX_CHARACTERS) return MALFORMED_KEY;
  return isPrintable(key) ? key : MALFORMED_KEY;
}

/** The content of a structured-field string, or null when it is not one. */
function decodeString(text: string): string | null {
  let key = '';
  let at = 1;
  for (; at < text.length && text[at] !== '"'; at += 1) {
    if (text[at] === '\\') {
      at += 1;
      if (text[at] !== '"' && text[at] !== '\\') return null;
    }
    key += text[at];
  }
  if (at >= text.length) return null;
  const rest = text.slice(at + 1);
  return rest === '' || PARAMETERS.test(rest) ? key : null;
}

/** Printable ASCII: %x20-7E, which excludes tabs, controls and everything above. */
function isPrintable(text: string): boolean {
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    if (unit < 0x20 || unit > 0x7e) return false;
  }
  return true;
}
