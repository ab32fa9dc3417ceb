/** What the log is told of a request that has ended, and of bytes that were none. */
import type { Access, Exchange } from './exchange.ts';
import { forwardedClientIp } from './input/client-ip.ts';
import { traceparentOf } from './input/request-headers.ts';
import type { About, HttpResponse, ResponseCode } from './response.ts';

/** A request that has ended. */
export type AccessRecord = Readonly<{
  requestId: string;
  /** The pattern of its route, or `other`; never the path that was sent. */
  route: string;
  /** '' of bytes that were no request. */
  method: string;
  /** What it ended in; null: the client went away before that. */
  code: ResponseCode | null;
  /** Whether an answer was written: else the client was gone. */
  isAnswered: boolean;
  /** From the header section to the answer; null of bytes that were no request. */
  durationMs: number | null;
  /** The address of the socket; undefined when the client was gone before it was known. */
  remoteAddress: string | undefined;
  /** The counted client address; null when none is counted. */
  client: string | null;
  /** Whose key it had; null when that is not known. */
  apiClient: string | null;
  /** The Traceparent field of W3C Trace Context, when there is a well-formed one. */
  traceparent: string | null;
  about: About | undefined;
  /** The error behind a 500 or 503. */
  fault: unknown;
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
  Readonly<{ exchange: Exchange; answer: HttpResponse | null }>;

/** The route of what names none. */
const NO_ROUTE = 'other';

/** What is known of bytes that were no request. */
const NO_REQUEST = Object.freeze({
  route: NO_ROUTE, method: '', isAnswered: true, durationMs: null, apiClient: null,
  traceparent: null,
  about: undefined, fault: undefined,
});

/** Tells the log of a request that has ended, if it wants to know. */
export function logRequest(teller: AccessLog, ending: RequestEnd): void {
  const { exchange, answer, isAnswered, durationMs, remoteAddress } = ending;
  const { requestId, route, req, headers, apiClient, client } = exchange;
  const code = answer === null ? null : answer.code;
  if (teller.log === null || !teller.log.wants(code)) return;
  teller.log.log({
    requestId, code, isAnswered, durationMs, remoteAddress,
    route: route === undefined ? NO_ROUTE : route.path,
    method: req.method ?? '',
    client: client === undefined ? clientOf(teller, remoteAddress, headers.forwardedFor) : client,
    apiClient: apiClient === null ? null : apiClient.name,
    traceparent: traceparentOf(headers),
    about: answer?.about,
    fault: answer?.fault,
  });
}

/** Tells the log of an answer to bytes that were no request. */
export function logParseError(
  teller: AccessLog,
  { requestId, answer: { code }, remoteAddress }:
    Pick<AccessRecord, 'requestId' | 'remoteAddress'> & { answer: HttpResponse },
): void {
  if (teller.log === null || !teller.log.wants(code)) return;
  teller.log.log(
    { ...NO_REQUEST, requestId, code, remoteAddress, client: clientOf(teller, remoteAddress, '') },
  );
}

/** Where a request came from whose content was not looked at: a caller's word is not taken. */
function clientOf({ apiKeys, proxies }: AccessLog, peer: string | undefined, forwardedFor: string) {
  return apiKeys === null ? forwardedClientIp(peer, forwardedFor, proxies) : null;
}
