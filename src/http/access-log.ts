/** What the log is told of a request that has ended, and of bytes that were none. */
import type { Access, Exchange } from './exchange.ts';
import { forwardedClientIp } from './input/client-ip.ts';
import { parseTraceparent } from './input/request-headers.ts';
import type { HttpResponse, LogContext, ResponseCode } from './response.ts';

/** A request that has ended. */
export type AccessRecord = Readonly<{
  requestId: string;
  /** The pattern of its route, or `other`; never the path that was sent. */
  route: string;
  /** '' of bytes that were no request. */
  method: string;
  /** What it ended in; null: the client went away before that. */
  code: ResponseCode | null;
  /** Whether an response was written: else the client was gone. */
  isAnswered: boolean;
  /** From the header section to the response; null of bytes that were no request. */
  durationMs: number | null;
  /** The address of the socket; undefined when the client was gone before it was known. */
  remoteAddress: string | undefined;
  /** The counted client address; null when none is counted. */
  clientIp: string | null;
  /** Whose key it had; null when that is not known. */
  apiClient: string | null;
  /** The Traceparent field of W3C Trace Context, when there is a well-formed one. */
  traceparent: string | null;
  context: LogContext | undefined;
  /** The error behind a 500 or 503. */
  error: unknown;
}>;

/** Where requests are told of when they have ended. */
export type RequestLog = Readonly<{
  /** Whether those that end so are told at all. */
  wants: (code: ResponseCode | null) => boolean;
  /** Must not throw. */
  log: (record: AccessRecord) => void;
}>;

/** What a server knows who tells the log. */
export type AccessLog = Access & Readonly<{
  /** Null: nobody is told. */
  log: RequestLog | null;
}>;

/** How a request ended. */
type RequestEnd = Pick<AccessRecord, 'isAnswered' | 'durationMs' | 'remoteAddress'> &
  Readonly<{ exchange: Exchange; response: HttpResponse | null }>;

/** The route of what names none. */
const NO_ROUTE = 'other';

/** What is known of bytes that were no request. */
const UNPARSED = Object.freeze({
  route: NO_ROUTE, method: '', isAnswered: true, durationMs: null, apiClient: null,
  traceparent: null,
  context: undefined, error: undefined,
});

/** Tells the log of a request that has ended, if it wants to know. */
export function logRequest(access: AccessLog, end: RequestEnd): void {
  const { exchange, response, isAnswered, durationMs, remoteAddress } = end;
  const { requestId, route, req, headers, apiClient, clientIp } = exchange;
  const code = response === null ? null : response.code;
  if (access.log === null || !access.log.wants(code)) return;
  access.log.log({
    requestId, code, isAnswered, durationMs, remoteAddress,
    route: route === undefined ? NO_ROUTE : route.path,
    method: req.method ?? '',
    clientIp: clientIp === undefined
      ? findClientIp(access, remoteAddress, headers.forwardedFor) : clientIp,
    apiClient: apiClient === null ? null : apiClient.name,
    traceparent: parseTraceparent(headers),
    context: response?.context,
    error: response?.error,
  });
}

/** Tells the log of an response to bytes that were no request. */
export function logParseError(
  access: AccessLog,
  { requestId, response: { code }, remoteAddress }:
    Pick<AccessRecord, 'requestId' | 'remoteAddress'> & { response: HttpResponse },
): void {
  if (access.log === null || !access.log.wants(code)) return;
  const clientIp = findClientIp(access, remoteAddress, '');
  access.log.log({ ...UNPARSED, requestId, code, remoteAddress, clientIp });
}

/** Where a request came from whose content was not looked at: a caller's word is not taken. */
function findClientIp(
  { apiKeys, proxies }: AccessLog,
  remoteAddress: string | undefined,
  forwardedFor: string,
): string | null {
  return apiKeys === null ? forwardedClientIp(remoteAddress, forwardedFor, proxies) : null;
}
