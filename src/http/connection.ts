/**
 * The requests of one socket, one after the other and in order, and the faults that the parser
 * reports beside them. At most one request of a socket is being worked on.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { logParseError, logRequest } from './access-log.ts';
import type { AccessLog } from './access-log.ts';
import { respondTo, headersOf, openExchange, mustCloseConnection } from './exchange.ts';
import type { Exchange } from './exchange.ts';
import { stopReading } from './lingering-close.ts';
import { createFinalResponse, stopParsing } from './node-internals.ts';
import { responseForError, writeResponse } from './response.ts';
import type { HttpResponse, ErrorCode } from './response.ts';
import type { Routes } from './router.ts';

/** An error that no answer shows: in full, for the log. */
export type RequestError = Readonly<{ requestId: string; route: string; error: unknown }>;

/** What all connections of a server share. */
export type ServerState = AccessLog & {
  readonly routes: Routes;
  readonly onError: (fault: RequestError) => void;
  readonly requestsMax: number;
  /** Requests that are waiting or being worked on, over all connections. */
  requests: number;
  phase: Phase;
};

/** A server that retires or stops takes no connection; one that stops takes no request either. */
type Phase = 'open' | 'retiring' | 'stopping';

/** One socket. */
export type HttpConnection = {
  readonly socket: Socket;
  /** Its address; a socket that is gone does not know it any more. */
  readonly remoteAddress: string | undefined;
  readonly waiting: Exchange[];
  /** The exchange whose turn it is, until its answer has been written. */
  current: Exchange | null;
  /** The exchange that came last: a fault in a body is a fault of its body. */
  newest: Exchange | null;
  /** The answer to what was no request, given after all requests. */
  finalResponse: HttpResponse | null;
  /** No further request is taken from this socket. */
  isReadingStopped: boolean;
};

/** Pipelined requests that may wait: as many as a browser's connection ever had. */
const PIPELINE_MAX_REQUESTS = 16;

/** Begins to keep a socket. */
export function openHttpConnection(socket: Socket): HttpConnection {
  // node:http takes its own listener away from sockets of CONNECT and after a first error.
  socket.on('error', () => socket.destroy());
  return {
    socket, remoteAddress: socket.remoteAddress, waiting: [], current: null, newest: null,
    finalResponse: null,
    isReadingStopped: false,
  };
}

/** Takes a request: it is served when those before it have been answered. */
export function accept(
  state: ServerState,
  connection: HttpConnection,
  req: IncomingMessage,
  res: ServerResponse,
): void {
  if (connection.isReadingStopped) return;
  const exchange = openExchange(req, res, state.routes);
  exchange.refused = state.phase === 'stopping' || state.requests >= state.requestsMax
    || connection.waiting.length >= PIPELINE_MAX_REQUESTS;
  state.requests += 1;
  connection.newest = exchange;
  connection.waiting.push(exchange);
  if (exchange.refused) {
    stopParsing(connection.socket);
    stopRequests(connection);
  }
  if (connection.current === null) advance(state, connection);
}

/**
 * Answers bytes that are no request, or a time-out (node's clientError). While a body is being
 * read it is the fault of that request; else it is answered after all requests, and last.
 */
export function refuseBytes(state: ServerState, connection: HttpConnection, code: ErrorCode,
  answer: HttpResponse): void {
  const { newest, socket, isReadingStopped } = connection;
  if (newest !== null && !newest.req.complete) {
    if (newest.answered && !isReadingStopped) socket.destroy();
    newest.fault ??= code;
    newest.reading?.fail(newest.fault);
    return;
  }
  closeWith(state, connection, answer);
}

/** Gives a last answer that belongs to no request, after those of all requests. */
export function closeWith(
  state: ServerState,
  connection: HttpConnection,
  answer: HttpResponse,
): void {
  if (connection.isReadingStopped) return;
  connection.finalResponse = answer;
  stopRequests(connection);
  if (connection.current === null) advance(state, connection);
}

/** Forgets the requests of a socket that is gone; one being worked on ends by itself. */
export function abandon(state: ServerState, connection: HttpConnection): void {
  for (const exchange of connection.waiting.splice(0)) {
    state.requests -= 1;
    finish(state, connection, exchange, null, false);
  }
}

function stopRequests(connection: HttpConnection): void {
  if (connection.isReadingStopped) return;
  connection.isReadingStopped = true;
  stopReading(connection.socket);
}

/** Turns to the next request, or to the parting answer when there is none. */
function advance(state: ServerState, connection: HttpConnection): void {
  const { socket, waiting, finalResponse } = connection;
  connection.current = null;
  // A client that is gone gets no answer, so nothing is done for it either.
  if (!socket.writable) return abandon(state, connection);
  const next = waiting.shift();
  if (next !== undefined) {
    connection.current = next;
    next.res.on('finish', () => advance(state, connection));
    void serve(state, connection, next);
  } else if (finalResponse !== null) {
    connection.finalResponse = null;
    sendFinalResponse(state, connection, finalResponse);
  }
}

/** Finds the answer and writes it; never rejects. */
async function serve(state: ServerState, connection: HttpConnection, exchange: Exchange) {
  const { requestId, route } = exchange;
  let answer: HttpResponse | null;
  try {
    answer = await respondTo(exchange, state);
  } catch (error) {
    answer = responseForError(error, headersOf(exchange, state));
  }
  state.requests -= 1;
  if (answer?.fault !== undefined && state.log === null) {
    state.onError({ requestId, route: route?.path ?? '', error: answer.fault });
  }
  const isAnswered = answer !== null && connection.socket.writable;
  if (answer !== null && isAnswered) write(state, connection, exchange, answer);
  else connection.socket.destroy();
  finish(state, connection, exchange, answer, isAnswered);
}

/** Counts a request that has ended, and tells the log. */
function finish(
  state: ServerState,
  { remoteAddress }: HttpConnection,
  exchange: Exchange,
  answer: HttpResponse | null,
  isAnswered: boolean,
): void {
  const { meter, begunAtMs } = exchange;
  const durationMs = meter.end(begunAtMs, answer === null ? null : answer.code);
  logRequest(state, { exchange, answer, isAnswered, durationMs, remoteAddress });
}

function write(
  state: ServerState,
  connection: HttpConnection,
  exchange: Exchange,
  answer: HttpResponse,
) {
  const broken = answer.close || mustCloseConnection(exchange);
  const idle = connection.waiting.length === 0 && connection.finalResponse === null;
  const close = broken || (state.phase !== 'open' && idle);
  if (close) stopRequests(connection);
  exchange.answered = true;
  writeResponse(exchange.res, answer, exchange.requestId, close);
}

/** Answers a socket whose parser has made no request of the bytes. */
function sendFinalResponse(
  state: ServerState,
  { socket, remoteAddress }: HttpConnection,
  answer: HttpResponse,
): void {
  const requestId = randomUUID();
  writeResponse(createFinalResponse(socket), answer, requestId, true);
  state.routes.other.count(answer.code);
  logParseError(state, { requestId, answer, remoteAddress });
}
