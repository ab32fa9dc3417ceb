/**
 * The requests of one socket, one after the other and in order, and the faults that the parser
 * reports beside them. At most one request of a socket is being worked on.
 */
import type { IncomingMessage, Server as PlainServer, ServerResponse } from 'node:http';
import { Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { logParseError, logRequest } from './access-log.ts';
import type { AccessLog } from './access-log.ts';
import { respondTo, headersOf, openExchange, mustCloseConnection } from './exchange.ts';
import type { Exchange } from './exchange.ts';
import { stopReading } from './lingering-close.ts';
import { createFinalResponse, stopParsing } from './node-internals.ts';
import { closingErrorResponse, responseForError, writeResponse } from './response.ts';
import type { HttpResponse, ErrorCode } from './response.ts';
import type { Routes } from './router.ts';
import { randomRequestId } from '../otp/crypto/random.ts';

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
type HttpConnection = {
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

/** The connections of a server. */
export type OpenConnections = Map<Socket, HttpConnection>;

/** What the parser's complaints are called; all others are `invalid_request`. */
const PARSER_ERRORS: ReadonlyMap<string, ErrorCode> = new Map([
  ['HPE_HEADER_OVERFLOW', 'headers_too_large'],
  ['HPE_CHUNK_EXTENSIONS_OVERFLOW', 'payload_too_large'],
  ['ERR_HTTP_REQUEST_TIMEOUT', 'request_timeout'],
]);

/** Every event of node:http goes to the connection it is about. */
export function serveConnections(server: PlainServer | TlsServer, state: ServerState): OpenConnections {
  const connections: OpenConnections = new Map();
  const request = (req: IncomingMessage, res: ServerResponse): void => {
    const connection = connections.get(req.socket);
    if (connection !== undefined) accept(state, connection, req, res);
  };
  const isSecure = server instanceof TlsServer;
  // Plain requests on the port of TLS never get so far: they end as the handshake fails.
  server.on(isSecure ? 'secureConnection' : 'connection', (socket: Socket) => {
    const connection = openHttpConnection(socket);
    connections.set(socket, connection);
    socket.once('close', () => {
      connections.delete(socket);
      abandon(state, connection);
    });
  });
  server.on('request', request);
  server.on('checkContinue', request);
  server.on('checkExpectation', request);
  server.on('connect', (req: IncomingMessage) => {
    const connection = connections.get(req.socket);
    if (connection !== undefined) closeWith(state, connection, state.routes.noTunnel);
  });
  server.on('clientError', (error: NodeJS.ErrnoException, stream) => {
    const connection = connections.get(stream as Socket);
    const code = PARSER_ERRORS.get(error.code ?? '') ?? 'invalid_request';
    // Not writable: the client is gone (ECONNRESET and its like), there is nobody to answer.
    if (connection === undefined || !stream.writable) stream.destroy();
    else refuseBytes(state, connection, code, closingErrorResponse(code));
  });
  return connections;
}

/** Begins to keep a socket. */
function openHttpConnection(socket: Socket): HttpConnection {
  // node:http takes its own listener away from sockets of CONNECT and after a first error.
  socket.on('error', () => socket.destroy());
  return {
    socket, remoteAddress: socket.remoteAddress, waiting: [], current: null, newest: null,
    finalResponse: null,
    isReadingStopped: false,
  };
}

/** Takes a request: it is served when those before it have been answered. */
function accept(
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
function refuseBytes(state: ServerState, connection: HttpConnection, code: ErrorCode,
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
function closeWith(
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
function abandon(state: ServerState, connection: HttpConnection): void {
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
  const durationMs = state.routes.now() - exchange.begunAtMs;
  exchange.meter.count(answer === null ? null : answer.code, durationMs);
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
  const requestId = randomRequestId();
  writeResponse(createFinalResponse(socket), answer, requestId, true);
  state.routes.other.count(answer.code, null);
  logParseError(state, { requestId, answer, remoteAddress });
}
