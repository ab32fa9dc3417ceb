/**
 * The head of a request: the path of its target, one pass over the lines of its header section, and
 * the checks that need no byte of the body.
 */
import type { IncomingMessage } from 'node:http';
import { isOtpId } from '../../otp/outcomes.ts';
import { closingErrorResponse, errorResponse } from '../response.ts';
import type { SentReport } from '../../otp/delivery/late-reports.ts';
import type { FieldError, HttpResponse } from '../response.ts';

/**
 * The path of a request target (RFC 9112, 3.2) without its query, byte for byte: nothing is decoded
 * or merged, so a route has one spelling. Null unless the target is in origin-form or
 * absolute-form, or is `*`.
 */
export function pathOf(target: string): string | null {
  if (target.startsWith('/')) return stripQuery(target);
  if (target === '*') return target;
  const absolute = ABSOLUTE_FORM.exec(target);
  if (absolute === null || !isHost(absolute[1] as string)) return null;
  const rest = target.slice(absolute[0].length);
  return rest.startsWith('/') ? stripQuery(rest) : '/';
}

const ABSOLUTE_FORM = /^https?:\/\/([^/?]*)/i;

/** The authority of a target in absolute-form, which replaces Host (RFC 9112, 3.2.2), or null. */
export function authorityOf(target: string): string | null {
  return ABSOLUTE_FORM.exec(target)?.[1] ?? null;
}

function stripQuery(target: string): string {
  const query = target.indexOf('?');
  return query === -1 ? target : target.slice(0, query);
}

const OTP_PATH_START = '/otp/';

export function isOtpPath(path: string): boolean {
  return path.startsWith(OTP_PATH_START) && isOtpId(otpIdOf(path));
}

/** @param path one of which isOtpPath is true */
export function otpIdOf(path: string): string {
  return path.slice(OTP_PATH_START.length);
}

/** An otp_id, the id of a secret, and the sealed message (otp/delivery/late-reports.ts). */
const REPORT_PATH = /^\/sms\/status\/[0-9a-f]{32}\/[\w-]{1,32}\/[\w-]{32,4096}$/;

export function isReportPath(path: string): boolean {
  return REPORT_PATH.test(path);
}

/** @param path one of which isReportPath is true */
export function reportOf(path: string): Omit<SentReport, 'body'> {
  const [otpId, keyId, sealed] = path.slice('/sms/status/'.length).split('/');
  return { otpId: otpId!, keyId: keyId!, sealed: sealed! };
}

/** The header fields that otpd reads; '' and an empty list mean absent. */
export type RequestHeaders = {
  hosts: string[];
  contentTypes: string[];
  /** This and the other strings: all lines of the field joined by commas (RFC 9110, 5.3). */
  contentEncoding: string;
  transferEncoding: string;
  expect: string;
  acceptLanguage: string;
  deviceTokens: string;
  forwardedFor: string;
  /** True with a Forwarded field (RFC 7239), which otpd does not read. */
  hasForwarded: boolean;
  /** Null when absent; several lines are joined, which is no origin. */
  origin: string | null;
  traceparent: string;
  /** Bytes, checked by the parser; null when absent. */
  contentLength: number | null;
  idempotencyKeys: string[];
  authorizations: string[];
  clientIps: string[];
  /** True when the client offers another protocol, which otpd never accepts. */
  upgrade: boolean;
  requestIds: string[];
  /** True when there are more than HEADER_LINES_MAX lines; the rest is not read. */
  overflow: boolean;
};

/** Three times what browsers and proxies send together. */
const HEADER_LINES_MAX = 100;

/** Well over what browsers send in Accept-Language. */
const LANGUAGES_MAX_CHARACTERS = 192;

/** Reads the header section without trailers (RFC 9110, 6.5.1). */
export function readHeaders(req: IncomingMessage): RequestHeaders {
  const raw = req.rawHeaders;
  const headers: RequestHeaders = {
    hosts: [], contentTypes: [], contentEncoding: '', transferEncoding: '', expect: '',
    acceptLanguage: '', deviceTokens: '', forwardedFor: '', hasForwarded: false, origin: null,
    traceparent: '', contentLength: null, upgrade: false,
    idempotencyKeys: [], authorizations: [], clientIps: [], requestIds: [],
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
    case 'otp-device': headers.deviceTokens = join(headers.deviceTokens, value); break;
    case 'x-forwarded-for': headers.forwardedFor = join(headers.forwardedFor, value); break;
    case 'forwarded': headers.hasForwarded = true; break;
    case 'origin': headers.origin = headers.origin === null ? value : `${headers.origin},${value}`;
      break;
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
 * 400 or 431 for a message whose framing is not trustworthy (RFC 9112, 2.3, 3.2, 6.1). The parser
 * refuses the rest: Content-Length with Transfer-Encoding, differing lengths, obs-fold, bare CR.
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

/** A non-empty host (RFC 9110, 4.2.1) with an optional port (RFC 3986, 3.2.2). */
function isHost(text: string): boolean {
  return /^(?:[\w.~!$&'()*+,;=%-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{0,5})?$/.test(text);
}

const MEDIA_TYPES = Object.freeze({
  json: 'application/json', form: 'application/x-www-form-urlencoded',
});

const OTHER_TYPE: Readonly<Record<keyof typeof MEDIA_TYPES, HttpResponse>> = Object.freeze({
  json: refuseAllBut(MEDIA_TYPES.json), form: refuseAllBut(MEDIA_TYPES.form),
});

function refuseAllBut(type: string): HttpResponse {
  const message = `send Content-Type: ${type}, once and in UTF-8`;
  return Object.freeze(errorResponse('unsupported_media_type', { message }, ['Accept', type]));
}

const ENCODED: HttpResponse = Object.freeze(errorResponse('unsupported_media_type', {
  message: 'send the body without Content-Encoding',
}, ['Accept-Encoding', 'identity']));

/** 415 with what otpd accepts, unless the content is of this type in UTF-8 (RFC 9110, 15.5.16). */
export function mediaTypeError(
  headers: RequestHeaders,
  content: keyof typeof MEDIA_TYPES,
): HttpResponse | null {
  const [type] = headers.contentTypes;
  if (type === undefined || headers.contentTypes.length > 1
    || !isMediaType(type, MEDIA_TYPES[content])) return OTHER_TYPE[content];
  const { contentEncoding } = headers;
  return contentEncoding === '' || contentEncoding.toLowerCase() === 'identity' ? null : ENCODED;
}

const TOKEN = "[\\w!#$%&'*+.^`|~-]+";
const QUOTED = String.raw`"((?:[\t !#-[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*)"`;

/** A parameter, which may be empty (RFC 9110, 5.6.6): its name, and its value in either form. */
const PARAMETER = new RegExp(`[ \\t]*;(?:[ \\t]*(${TOKEN})=(?:(${TOKEN})|${QUOTED}))?`, 'y');

/** The type with any parameters, unless one of them names another charset than UTF-8. */
export function isMediaType(value: string, type: string): boolean {
  if (value === type) return true;
  if (value.slice(0, type.length).toLowerCase() !== type) return false;
  PARAMETER.lastIndex = type.length;
  let end = type.length;
  for (let found = PARAMETER.exec(value); found !== null; found = PARAMETER.exec(value)) {
    const [, name = '', token, quoted = ''] = found;
    const text = token ?? quoted.replace(/\\(.)/g, '$1');
    if (name.toLowerCase() === 'charset' && !/^utf-?8$/i.test(text)) return false;
    end = PARAMETER.lastIndex;
  }
  // The parser has removed the white space around the value.
  return end === value.length;
}

/**
 * Accept-Language (RFC 9110, 12.5.4), unparsed and bounded. It is cut between members, because
 * half a member may name another language or another weight.
 */
export function acceptedLanguages({ acceptLanguage }: RequestHeaders): string {
  if (acceptLanguage.length <= LANGUAGES_MAX_CHARACTERS) return acceptLanguage;
  const end = acceptLanguage.lastIndexOf(',', LANGUAGES_MAX_CHARACTERS);
  return acceptLanguage.slice(0, Math.max(0, end));
}

/** The request id of the client if its characters are safe in a log (OWASP ASVS 16.4.1). */
export function clientRequestId(headers: RequestHeaders): string | null {
  const [id] = headers.requestIds;
  if (id === undefined || headers.requestIds.length > 1) return null;
  return /^[A-Za-z0-9._-]{1,64}$/.test(id) ? id : null;
}

/** Version, trace id, parent id and flags; a later version may append more. */
const TRACEPARENT = /^(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}/;
const TRACEPARENT_CHARACTERS = 55;

/** The members of Traceparent that version 00 defines; null when the field is malformed. */
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

/** Parameters after a structured-field string (RFC 9651, 3.1.2), which are ignored. */
const PARAMETERS =
  /^(?:; *[a-z*][a-z0-9_.*-]*(?:=(?:"(?:[ !#-[\]-~]|\\["\\])*"|[A-Za-z0-9?@:*/+=._%-]+))?)*$/;

export function requireIdempotencyKey(values: readonly string[]): string | FieldError {
  return parseIdempotencyKey(values) ?? MISSING_KEY;
}

/**
 * Decodes the Idempotency-Key (docs/api.md, "Key"; draft-ietf-httpapi-idempotency-key-header, 2.1),
 * bare or as a structured-field string (RFC 9651, 3.3.3); null when the header is absent.
 */
export function parseIdempotencyKey(values: readonly string[]): string | FieldError | null {
  if (values.length === 0) return null;
  if (values.length > 1) return REPEATED_KEY;
  const value = values[0] as string;
  const key = value.startsWith('"') ? decodeString(value) : value;
  if (key === null || key.length === 0 || key.length > KEY_MAX_CHARACTERS) return MALFORMED_KEY;
  return isPrintable(key) ? key : MALFORMED_KEY;
}

/** The content of a structured-field string, or null when the text is malformed. */
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

/** Printable ASCII is %x20-7E. */
function isPrintable(text: string): boolean {
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    if (unit < 0x20 || unit > 0x7e) return false;
  }
  return true;
}
