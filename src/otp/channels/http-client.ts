/**
 * POST requests to one configured address, bounded in time, in connections and in what is read of
 * the answer. Redirects are not followed: nothing but the configuration says where a code goes.
 */
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import type { ClientRequest, IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { isLoopbackHost, SEND_TIMEOUT_MS } from './channel.ts';
import type { SendResult } from './channel.ts';

/** Where a poster posts to, and its bounds. */
export type PostTarget = Readonly<{
  /** http or https. */
  url: URL;
  /** PEM: the authorities that are trusted in place of Node's; null: Node's. */
  ca: string | null;
}> & PostBounds;

/** The bounds of a poster. */
export type PostBounds = Readonly<{
  /** Connections at a time, MAX_SOCKETS if not given; what is posted beyond them waits its turn. */
  maxSockets?: number;
  /**
   * From the call of `post` to the end of the answer, waiting for a connection included;
   * SEND_TIMEOUT_MS if not given.
   */
  timeoutMs?: number;
}>;

/** A request without what is the same for all. */
export type HttpPayload = Readonly<{ headers: OutgoingHttpHeaders; body: string }>;

/**
 * What came of a request: the status of the answer as soon as its head is there, however its body
 * ends; or why there is none, an error code such as `ECONNREFUSED`.
 */
export type PostResult =
  | Readonly<{ status: number; retryAfterSeconds: number | null }>
  | Readonly<{ code: string }>;

/** Posts to one address. */
export type Poster = Readonly<{
  /**
   * Sends one request. Never throws: what goes wrong is a code, `ETIMEDOUT` when the time is over.
   *
   * @param compose makes the request, at once; what it throws is a code too
   */
  post: (compose: () => HttpPayload) => Promise<PostResult>;
  /** Closes the connections; what is under way, and what is posted later, ends as `ECANCELED`. */
  close: () => void;
}>;

/** Enough for the messages of a busy process at 100 ms each; a provider may allow fewer. */
const MAX_SOCKETS = 256;

/** An answer says next to nothing; one that goes on after so many bytes is broken off. */
const RESPONSE_MAX_BYTES = 16 * 1024;

/**
 * Of a connection that is kept, or less if the server says so. Much later the networks between
 * begin to forget it, and silently: a request would time out.
 */
const IDLE_TIMEOUT_MS = 30_000;

/** Makes a poster. It opens no connection before the first request. */
export function createPoster(target: PostTarget): Poster {
  const pool = createAgent(target, true);
  const fresh = createAgent(target, false);
  const openRequest: typeof httpRequest = isTls(target) ? httpsRequest : httpRequest;
  const inFlight = new Set<(code: string) => void>();
  let isClosed = false;

  const post: Poster['post'] = (compose) => new Promise((resolve) => {
    let request: ClientRequest | null = null;
    const end = (code: string): void => {
      clearTimeout(timer);
      inFlight.delete(abort);
      // When the head of an answer was there, that has been told already.
      resolve({ code });
    };
    const abort = (code: string): void => {
      end(code);
      request?.destroy();
    };
    const timer = setTimeout(abort, target.timeoutMs ?? SEND_TIMEOUT_MS, 'ETIMEDOUT');
    const send = (agent: HttpAgent, { headers, body }: HttpPayload): void => {
      const options = { method: 'POST', agent, headers: completeHeaders(headers, body) };
      const current = openRequest(target.url, options);
      const isStale = watchForStaleSocket(current);
      request = current;
      current.on('response', (response) => {
        resolve(toPostResult(response));
        discardBody(response);
      });
      current.on('error', (error) => {
        if (inFlight.has(abort) && isStale(error)) send(fresh, { headers, body });
        else end(toErrorCode(error));
      });
      current.on('close', () => {
        if (request === current) end('ECONNRESET');
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

function isTls({ url }: PostTarget): boolean {
  return url.protocol === 'https:';
}

function createAgent(target: PostTarget, keepAlive: boolean): HttpAgent {
  const { ca, maxSockets = MAX_SOCKETS } = target;
  const options = { keepAlive, maxSockets, maxFreeSockets: maxSockets, timeout: IDLE_TIMEOUT_MS };
  if (!isTls(target)) return new HttpAgent(options);
  // Said here, for a variable of the environment can turn it off for the whole process.
  const trust = { rejectUnauthorized: true, ...(ca === null ? {} : { ca }) };
  return new HttpsAgent({ ...options, ...trust });
}

function completeHeaders(headers: OutgoingHttpHeaders, body: string): OutgoingHttpHeaders {
  return { 'User-Agent': 'otpd', ...headers, 'Content-Length': Buffer.byteLength(body) };
}

/**
 * Finds out whether a request failed because its connection, kept from an earlier one, had been
 * closed by the other side meanwhile: no byte came back, so it is most likely that none was read,
 * and a request that carries its id can be sent again in any case.
 *
 * @returns a function that says so of the request's error
 */
function watchForStaleSocket(request: ClientRequest): (error: Error) => boolean {
  let socket: Socket | null = null;
  // `request.reusedSocket` is not set on a request that had to wait for its connection.
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

/** Reads the rest of an answer, for its connection to be used again, and keeps nothing of it. */
function discardBody(response: IncomingMessage): void {
  let bytes = 0;
  response.on('error', () => {});
  response.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > RESPONSE_MAX_BYTES) response.destroy();
  });
}

/** A code, or at least the class of an error; never its message, which may quote anything. */
function toErrorCode(error: unknown): string {
  const { code, name } = error as NodeJS.ErrnoException;
  return [code, name].find((text) => /^[A-Za-z]\w{0,63}$/.test(text ?? '')) ?? 'UNKNOWN';
}

const ACCEPTED: SendResult = Object.freeze({ kind: 'accepted' });

/** Request Timeout, Too Early and Too Many Requests say: not now. */
const RETRIED_STATUSES: ReadonlySet<number> = new Set([408, 425, 429]);

/** Says nothing of the message: the account is at fault, and may be mended in time. */
export const UNAUTHORIZED = 401;

/**
 * Judges the result of a request (RFC 9110, 15; RFC 8470, 5.2; RFC 6585, 4).
 *
 * - `accepted`: 2xx.
 * - `refused`: 3xx, for redirects are not followed, and 4xx but those that say "not now", or are
 *   about something else than the message.
 * - `retry`: those, 5xx and any other status, after the seconds of Retry-After; and no answer.
 *
 * @param retriedStatus a status of the provider that says nothing of the message; null: none
 * @returns a verdict whose reason is such as `status 503` or `ECONNREFUSED`
 */
export function httpSendResult(
  result: PostResult,
  retriedStatus: number | null = null,
): SendResult {
  if ('code' in result) return { kind: 'retry', reason: result.code, afterSeconds: null };
  const { status, retryAfterSeconds } = result;
  const reason = `status ${status}`;
  const hundreds = Math.floor(status / 100);
  if (hundreds === 2) return ACCEPTED;
  const isRetried = RETRIED_STATUSES.has(status) || status === retriedStatus;
  if ((hundreds === 3 || hundreds === 4) && !isRetried) return { kind: 'refused', reason };
  return { kind: 'retry', reason, afterSeconds: retryAfterSeconds };
}

/** No code lives longer (contract, "Numbers"), so nothing is worth a longer wait. */
const RETRY_AFTER_MAX_SECONDS = 600;

/** The one form of a date that is sent (RFC 9110, 5.6.7); Date.parse takes many more. */
const HTTP_DATE = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/;

/**
 * Reads Retry-After: whole seconds, or a date, which is measured against the `Date` of the same
 * answer, so that no clock but the provider's has a say.
 *
 * @param retryAfter the field; undefined when there is none
 * @param date the field Date of the same answer
 * @returns whole seconds from 0 to RETRY_AFTER_MAX_SECONDS; null when the field says nothing
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

/** Milliseconds since the epoch; NaN when it is no date. */
function parseDate(text: string): number {
  return HTTP_DATE.test(text) ? Date.parse(text) : NaN;
}

/**
 * Reads the address of a provider.
 *
 * @param allowHttp whether http is allowed for other hosts than this machine
 * @returns the address, or what is wrong with it, never quoting it: it may hold a token
 */
export function parseEndpointUrl(
  text: string,
  allowHttp: boolean,
): { url: URL } | { error: string } {
  // The URL parser would repair what it is given: too few slashes, or too many, and blanks.
  if (!/^https?:\/\/[^/\\\s\p{Cc}][^\s\p{Cc}]*$/iu.test(text) || !URL.canParse(text)) {
    return { error: 'must be an address such as https://host/path' };
  }
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') {
    return { error: 'must not hold a user name or a password' };
  }
  if (text.includes('#')) return { error: 'must not have a fragment' };
  if (url.protocol === 'http:' && !allowHttp && !isLoopbackHost(url.hostname)) {
    return { error: 'must be https, for its host is not this machine' };
  }
  return { url };
}
