/**
 * POST requests to one configured URL, with bounds on time, connections and response size.
 * Redirects are not followed: only the configuration decides where a code is sent.
 */
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import type { ClientRequest, IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { ACCEPTED, isLoopbackHost, SEND_TIMEOUT_MS } from './channel.ts';
import type { SendResult } from './channel.ts';
import { findRoute, ProxyRefusal, TunnelAgent } from './proxy.ts';
import type { FindProxy, HttpRoute } from './proxy.ts';

export type PostTarget = Readonly<{
  url: URL;
  /** PEM: the CA certificates that replace those of Node.js; null to keep these. */
  ca: string | null;
}> & PostBounds;

export type PostBounds = Readonly<{
  /** Connections at a time; further requests queue. Default: MAX_SOCKETS. */
  maxSockets?: number;
  /**
   * From the call of `post` to the end of the response, the wait for a connection included.
   * Default: SEND_TIMEOUT_MS.
   */
  timeoutMs?: number;
  /** Whether the result waits for the body. Default: false. */
  readsBody?: boolean;
  /** Default: every connection is direct. */
  findProxy?: FindProxy;
}>;

export type HttpPayload = Readonly<{ headers: OutgoingHttpHeaders; body: string }>;

/**
 * The status once the response header has arrived, however the body ends; otherwise the error code,
 * such as `ECONNREFUSED`.
 */
export type PostResult =
  | Readonly<{
    status: number;
    retryAfterSeconds: number | null;
    /** Absent when it is not wanted, too long, or not complete in time. */
    body?: string;
  }>
  | Readonly<{ code: string }>
  /** The answer of a proxy that opened no tunnel. */
  | Readonly<{ proxyStatus: number }>;

export type Poster = Readonly<{
  /**
   * Never throws: every error is a code, `ETIMEDOUT` for the timeout.
   * @param compose builds the request and is called immediately; an exception becomes a code
   */
  post: (compose: () => HttpPayload) => Promise<PostResult>;
  /** Closes all connections. Requests in flight and later ones end with `ECANCELED`. */
  close: () => void;
}>;

/** 2560 requests per second at 100 ms each; a provider may allow fewer. */
const MAX_SOCKETS = 256;

/** No more of a response body is read, because the answer of an API is short. */
const RESPONSE_MAX_BYTES = 16 * 1024;

/**
 * The server may ask for less. Firewalls and NAT silently drop connections that are idle for much
 * longer, and the next request on such a connection times out.
 */
const IDLE_TIMEOUT_MS = 30_000;

/** Opens no connection before the first request. */
export function createPoster(target: PostTarget): Poster {
  const route = findRoute(target.url, target.findProxy);
  const pool = createAgent(target, route, true);
  const fresh = createAgent(target, route, false);
  const openRequest: typeof httpRequest
    = route.url.protocol === 'https:' ? httpsRequest : httpRequest;
  const inFlight = new Set<(code: string) => void>();
  let isClosed = false;

  const post: Poster['post'] = (compose) => new Promise((resolve) => {
    let request: ClientRequest | null = null;
    let answered: PostResult | null = null;
    const end = (result: PostResult): void => {
      clearTimeout(timer);
      inFlight.delete(abort);
      // No effect if the response has already resolved the promise.
      resolve(answered ?? result);
    };
    const abort = (code: string): void => {
      end({ code });
      request?.destroy();
    };
    const timer = setTimeout(abort, target.timeoutMs ?? SEND_TIMEOUT_MS, 'ETIMEDOUT');
    const send = (agent: HttpAgent, { headers, body }: HttpPayload): void => {
      const sent = { ...completeHeaders(headers, body), ...route.headers };
      const options = { method: 'POST', agent, path: route.path, headers: sent };
      const current = openRequest(route.url, options);
      const isStale = watchForStaleSocket(current);
      request = current;
      current.on('response', (response) => {
        const head = toPostResult(response);
        answered = head;
        if (target.readsBody !== true) resolve(head);
        readBody(response, (body) => resolve({ ...head, body }));
      });
      current.on('error', (error) => {
        if (inFlight.has(abort) && isStale(error)) send(fresh, { headers, body });
        else end(toFailure(error));
      });
      current.on('close', () => {
        if (request === current) end({ code: 'ECONNRESET' });
      });
      current.end(body);
    };
    inFlight.add(abort);
    try {
      if (isClosed) abort('ECANCELED');
      else send(pool, compose());
    } catch (error) {
      abort(toErrorCode(error));
    }
  });

  const close = (): void => {
    isClosed = true;
    for (const abort of inFlight) abort('ECANCELED');
    pool.destroy();
    fresh.destroy();
  };
  return Object.freeze({ post, close });
}

function createAgent(target: PostTarget, route: HttpRoute, keepAlive: boolean): HttpAgent {
  const { url, tunnel } = route;
  const { ca, maxSockets = MAX_SOCKETS, timeoutMs = SEND_TIMEOUT_MS } = target;
  const options = { keepAlive, maxSockets, maxFreeSockets: maxSockets, timeout: IDLE_TIMEOUT_MS };
  if (url.protocol === 'http:') return new HttpAgent(options);
  // Explicit, because NODE_TLS_REJECT_UNAUTHORIZED can disable verification for the whole process.
  const trust = { rejectUnauthorized: true, ...(ca === null ? {} : { ca }) };
  return tunnel === null ? new HttpsAgent({ ...options, ...trust })
    : new TunnelAgent({ ...options, ...trust }, tunnel, timeoutMs);
}

function completeHeaders(headers: OutgoingHttpHeaders, body: string): OutgoingHttpHeaders {
  return { 'User-Agent': 'otpd', ...headers, 'Content-Length': Buffer.byteLength(body) };
}

/**
 * Detects a persistent connection that the server closed before it read the request: no byte came
 * back. The request is safe to repeat, because it carries its id.
 * @returns whether an error of the request has this cause
 */
function watchForStaleSocket(request: ClientRequest): (error: Error) => boolean {
  let socket: Socket | null = null;
  // Node.js does not set `request.reusedSocket` when the request waited for its connection.
  let bytesBefore = 0;
  request.on('socket', (given) => {
    socket = given;
    bytesBefore = given.bytesRead;
  });
  return (error) => bytesBefore > 0 && socket?.bytesRead === bytesBefore
    && ['ECONNRESET', 'EPIPE'].includes(toErrorCode(error));
}

function toPostResult({ statusCode, headers }: IncomingMessage): PostResult {
  const retryAfterSeconds = readRetryAfter(headers['retry-after'], headers.date);
  return Object.freeze({ status: statusCode ?? 0, retryAfterSeconds });
}

/**
 * Reads a body even if it is not wanted, so that the connection can be reused.
 * @param onComplete is not called for a body that is too long or breaks off
 */
function readBody(response: IncomingMessage, onComplete: (body: string) => void): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  response.on('error', () => {});
  response.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > RESPONSE_MAX_BYTES) response.destroy();
    else chunks.push(chunk);
  });
  response.on('end', () => onComplete(Buffer.concat(chunks).toString()));
}

function toFailure(error: Error): PostResult {
  return error instanceof ProxyRefusal ? { proxyStatus: error.status }
    : { code: toErrorCode(error) };
}

/** The code or class of an error, never its message, which may quote the request. */
function toErrorCode(error: unknown): string {
  const { code, name } = error as NodeJS.ErrnoException;
  return [code, name].find((text) => /^[A-Za-z]\w{0,63}$/.test(text ?? '')) ?? 'UNKNOWN';
}

/** Timeout, Conflict with a request in progress, Locked, Too Early, Too Many Requests. */
const RETRIED_STATUSES: ReadonlySet<number> = new Set([408, 409, 423, 425, 429]);

/** Said before anything of the message is looked at. */
export const UNAUTHORIZED = 401;

/** Bad Request and Unprocessable Content are the only ones that concern this message. */
const REFUSED_STATUSES: ReadonlySet<number> = new Set([400, 422]);

/**
 * Maps a response to a result (RFC 9110, 15; RFC 8470, 5.2; RFC 6585, 4; RFC 4918, 11).
 *
 * - `accepted`: 2xx.
 * - `refused`: 400 and 422.
 * - `retry`: other temporary 4xx, 5xx, any other status, after Retry-After if present; no response.
 * - `denied`: every other 3xx, because redirects are not followed, and 4xx: the credentials, the
 *   account or the URL is wrong.
 *
 * @returns a result with a reason such as `status 503` or `ECONNREFUSED`
 */
export function httpSendResult(result: PostResult): SendResult {
  if ('code' in result) return { kind: 'retry', reason: result.code, afterSeconds: null };
  if ('proxyStatus' in result) {
    const { proxyStatus } = result;
    const kind = isDenial(proxyStatus) ? 'denied' : 'retry';
    return { kind, reason: `proxy status ${proxyStatus}`, afterSeconds: null };
  }
  const { status, retryAfterSeconds: afterSeconds } = result;
  const reason = `status ${status}`;
  if (status >= 200 && status <= 299) return ACCEPTED;
  if (REFUSED_STATUSES.has(status)) return { kind: 'refused', reason };
  return { kind: isDenial(status) ? 'denied' : 'retry', reason, afterSeconds };
}

function isDenial(status: number): boolean {
  return status >= 300 && status <= 499 && !RETRIED_STATUSES.has(status);
}

/** No OTP lives longer (docs/api.md, "Numbers"), so a longer wait is pointless. */
const RETRY_AFTER_MAX_SECONDS = 600;

/** The only date format that may be sent (RFC 9110, 5.6.7). Date.parse accepts many more. */
const HTTP_DATE = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/;

/**
 * Reads Retry-After: whole seconds, or a date. A date is compared with the Date field of the same
 * response, so that only the provider's clock counts.
 * @returns whole seconds from 0 to RETRY_AFTER_MAX_SECONDS; null when the field is absent or
 *   invalid
 */
export function readRetryAfter(
  retryAfter: string | undefined,
  date: string | undefined,
): number | null {
  if (retryAfter === undefined) return null;
  const seconds = /^\d+$/.test(retryAfter) ? Number(retryAfter)
    : (parseDate(retryAfter) - parseDate(date ?? '')) / 1000;
  if (Number.isNaN(seconds)) return null;
  return Math.min(Math.max(seconds, 0), RETRY_AFTER_MAX_SECONDS);
}

/** Milliseconds since the epoch; NaN for an invalid date. */
function parseDate(text: string): number {
  return HTTP_DATE.test(text) ? Date.parse(text) : NaN;
}

/**
 * @param allowHttp whether http is allowed to hosts other than this machine
 * @returns the URL, or an error that never quotes the text, which may contain a token
 */
export function parseEndpointUrl(
  text: string,
  allowHttp: boolean,
): { url: URL } | { error: string } {
  // The URL parser would repair missing or extra slashes and spaces.
  if (!/^https?:\/\/[^/\\\s\p{Cc}][^\s\p{Cc}]*$/iu.test(text) || !URL.canParse(text)) {
    return { error: 'must be a URL such as https://host/path' };
  }
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') {
    return { error: 'must not contain a user name or password' };
  }
  if (text.includes('#')) return { error: 'must not have a fragment' };
  if (url.protocol === 'http:' && !allowHttp && !isLoopbackHost(url.hostname)) {
    return { error: 'must use https, because its host is not this machine' };
  }
  return { url };
}
