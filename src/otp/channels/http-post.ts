/**
 * POST requests to one configured address, bounded in time, in connections and in what is read of
 * the answer. Redirects are not followed: nothing but the configuration says where a code goes.
 */
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import type { ClientRequest, IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { SEND_TIMEOUT_MS } from '../channel.ts';
import { readRetryAfter } from './retry-after.ts';

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
export type Outgoing = Readonly<{ headers: OutgoingHttpHeaders; body: string }>;

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
  post: (compose: () => Outgoing) => Promise<PostResult>;
  /** Closes the connections; what is under way, and what is posted later, ends as `ECANCELED`. */
  close: () => void;
}>;

/** Enough for the messages of a busy process at 100 ms each; a provider may allow fewer. */
export const MAX_SOCKETS = 256;

/** An answer says next to nothing; one that goes on after so many bytes is broken off. */
const ANSWER_MAX_BYTES = 16 * 1024;

/**
 * Of a connection that is kept, or less if the server says so. Much later the networks between
 * begin to forget it, and silently: a request would time out.
 */
const IDLE_TIMEOUT_MS = 30_000;

/** Makes a poster. It opens no connection before the first request. */
export function createPoster(target: PostTarget): Poster {
  const pool = createAgent(target, true);
  const fresh = createAgent(target, false);
  const open: typeof httpRequest = isTls(target) ? httpsRequest : httpRequest;
  const underWay = new Set<(code: string) => void>();
  let isClosed = false;

  const post: Poster['post'] = (compose) => new Promise((resolve) => {
    let request: ClientRequest | null = null;
    const end = (code: string): void => {
      clearTimeout(timer);
      underWay.delete(breakOff);
      // When the head of an answer was there, that has been told already.
      resolve({ code });
    };
    const breakOff = (code: string): void => {
      end(code);
      request?.destroy();
    };
    const timer = setTimeout(breakOff, target.timeoutMs ?? SEND_TIMEOUT_MS, 'ETIMEDOUT');
    const send = (agent: HttpAgent, { headers, body }: Outgoing): void => {
      const mine = open(target.url, { method: 'POST', agent, headers: complete(headers, body) });
      const wasStale = watchStaleness(mine);
      request = mine;
      mine.on('response', (response) => {
        resolve(resultOf(response));
        drain(response);
      });
      mine.on('error', (error) => {
        if (underWay.has(breakOff) && wasStale(error)) send(fresh, { headers, body });
        else end(codeOf(error));
      });
      mine.on('close', () => {
        if (request === mine) end('ECONNRESET');
      });
      mine.end(body);
    };
    underWay.add(breakOff);
    try {
      if (isClosed) breakOff('ECANCELED');
      else send(pool, compose());
    } catch (error) {
      breakOff(codeOf(error));
    }
  });

  const close = (): void => {
    isClosed = true;
    for (const breakOff of underWay) breakOff('ECANCELED');
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

function complete(headers: OutgoingHttpHeaders, body: string): OutgoingHttpHeaders {
  return { 'User-Agent': 'otpd', ...headers, 'Content-Length': Buffer.byteLength(body) };
}

/**
 * Finds out whether a request failed because its connection, kept from an earlier one, had been
 * closed by the other side meanwhile: no byte came back, so it is most likely that none was read,
 * and a request that carries its id can be sent again in any case.
 *
 * @returns a function that says so of the request's error
 */
function watchStaleness(request: ClientRequest): (error: Error) => boolean {
  let socket: Socket | null = null;
  // `request.reusedSocket` is not set on a request that had to wait for its connection.
  let bytesBefore = 0;
  request.on('socket', (given) => {
    socket = given;
    bytesBefore = given.bytesRead;
  });
  return (error) => bytesBefore > 0 && socket?.bytesRead === bytesBefore
    && ['ECONNRESET', 'EPIPE'].includes(codeOf(error));
}

function resultOf({ statusCode, headers }: IncomingMessage): PostResult {
  const retryAfterSeconds = readRetryAfter(headers['retry-after'], headers.date);
  return Object.freeze({ status: statusCode ?? 0, retryAfterSeconds });
}

/** Reads the rest of an answer, for its connection to be used again, and keeps nothing of it. */
function drain(response: IncomingMessage): void {
  let bytes = 0;
  response.on('error', () => {});
  response.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > ANSWER_MAX_BYTES) response.destroy();
  });
}

/** A code, or at least the class of an error; never its message, which may quote anything. */
function codeOf(error: unknown): string {
  const { code, name } = error as NodeJS.ErrnoException;
  return [code, name].find((text) => /^[A-Za-z]\w{0,63}$/.test(text ?? '')) ?? 'UNKNOWN';
}
