/** The access-log record of a finished request, or of a parse error. */
import type { Access, Exchange } from './exchange.ts';
import { forwardedClientIp } from './input/client-ip.ts';
import { parseTraceparent } from './input/request-head.ts';
import type { HttpResponse, LogContext, ResponseCode } from './response.ts';

export type AccessRecord = Readonly<{
  requestId: string;
  /** The pattern of the route, or `other`; never the path that the client sent. */
  route: string;
  /** '' for a parse error. */
  method: string;
  /** Null when the client disconnected before there was a response. */
  code: ResponseCode | null;
  /** False when the client had disconnected before the response was written. */
  isAnswered: boolean;
  /** From the end of the header section to the response; null for a parse error. */
  durationMs: number | null;
  /** Undefined when the client disconnected before the address was read. */
  remoteAddress: string | undefined;
  /** The client IP that limits count; null when none is counted. */
  clientIp: string | null;
  /** The name of the API client; null when it is unknown. */
  apiClient: string | null;
  /** A well-formed Traceparent field (W3C Trace Context), or null. */
  traceparent: string | null;
  context: LogContext | undefined;
  /** The error behind a 500 or 503. */
  error: unknown;
}>;

/** The receiver of access-log records. */
export type RequestLog = Readonly<{
  /** False when records of this code are not logged, so that none needs to be built. */
  wants: (code: ResponseCode | null) => boolean;
  /** Must not throw. */
  log: (record: AccessRecord) => void;
}>;

/** The log of a server, and how the server finds a client IP. */
export type AccessLog = Access & Readonly<{
  /** Null: no request is logged. */
  log: RequestLog | null;
}>;

type RequestEnd = Pick<AccessRecord, 'isAnswered' | 'durationMs' | 'remoteAddress'> &
  Readonly<{ exchange: Exchange; response: HttpResponse | null }>;

/** The members of a record that a parse error leaves unknown. */
const UNPARSED = Object.freeze({
  route: 'other', method: '', isAnswered: true, durationMs: null, apiClient: null,
  traceparent: null,
  context: undefined, error: undefined,
});

export function logRequest(access: AccessLog, end: RequestEnd): void {
  const { exchange, response, isAnswered, durationMs, remoteAddress } = end;
  const { requestId, route, req, headers, apiClient, clientIp } = exchange;
  const code = response === null ? null : response.code;
  if (access.log === null || !access.log.wants(code)) return;
  access.log.log({
    requestId, code, isAnswered, durationMs, remoteAddress,
    route: route.path,
    method: req.method ?? '',
    clientIp: clientIp === undefined
      ? findClientIp(access, remoteAddress, headers.forwardedFor) : clientIp,
    apiClient: apiClient === null ? null : apiClient.name,
    traceparent: parseTraceparent(headers),
    context: response?.context,
    error: response?.error,
  });
}

export function logParseError(
  access: AccessLog,
  { requestId, response: { code }, remoteAddress }:
    Pick<AccessRecord, 'requestId' | 'remoteAddress'> & { response: HttpResponse },
): void {
  if (access.log === null || !access.log.wants(code)) return;
  const clientIp = findClientIp(access, remoteAddress, '');
  access.log.log({ ...UNPARSED, requestId, code, remoteAddress, clientIp });
}

/** The client IP of an unauthenticated request: X-Client-IP is not trusted, so none with keys. */
function findClientIp(
  { apiKeys, proxies }: AccessLog,
  remoteAddress: string | undefined,
  forwardedFor: string,
): string | null {
  if (apiKeys !== null) return null;
  return forwardedClientIp(remoteAddress, forwardedFor, proxies)?.clientIp ?? null;
}
