/**
 * The requests of one socket, one after the other and in order, and the faults that the parser
 * reports beside them. At most one request of a socket is being worked on.
 */
import type { IncomingMessage, Server as PlainServer, ServerResponse } from 'node:http';
import { Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { logParseError, logRequest } from './access-log.ts';
import type { AccessLog } from './access-log.ts';
import { mustCloseConnection, openExchange, respondTo, routeHeaders } from './exchange.ts';
import type { Exchange } from './exchange.ts';
import { stopReading } from './lingering-close.ts';
import { createFinalResponse, stopParsing } from './node-internals.ts';
import { closingErrorResponse, responseForError, writeResponse } from './response.ts';
import type { HttpResponse, ErrorCode } from './response.ts';
import type { Routes } from './router.ts';
import { randomRequestId } from '../otp/crypto/random.ts';

/** An error that no response shows: in full, for the log. */
export type RequestError = Readonly<{ requestId: string; route: string; error: unknown }>;

/** What all connections of a server share. */
export type ServerState = AccessLog & {
  readonly routes: Routes;
  readonly onError: (error: RequestError) => void;
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
  /** The exchange whose turn it is, until its response has been written. */
  current: Exchange | null;
  /** The exchange that came last: a fault in a body is a fault of its body. */
  newest: Exchange | null;
  /** The response to what was no request, given after all requests. */
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
export function serveConnections(
  server: PlainServer | TlsServer,
  state: ServerState,
): OpenConnections {
  const connections: OpenConnections = new Map();
  const onRequest = (req: IncomingMessage, res: ServerResponse): void => {
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
  server.on('request', onRequest);
  server.on('checkContinue', onRequest);
  server.on('checkExpectation', onRequest);
  server.on('connect', (req: IncomingMessage) => {
    const connection = connections.get(req.socket);
    if (connection !== undefined) closeWith(state, connection, state.routes.connectNotAllowed);
  });
  server.on('clientError', (error: NodeJS.ErrnoException, stream) => {
    const connection = connections.get(stream as Socket);
    const code = PARSER_ERRORS.get(error.code ?? '') ?? 'invalid_request';
    // Not writable: the client is gone (ECONNRESET and its like), there is nobody to answer.
    if (connection === undefined || !stream.writable) stream.destroy();
    else handleParseError(state, connection, code);
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
  exchange.isShed = state.phase === 'stopping' || state.requests >= state.requestsMax
    || connection.waiting.length >= PIPELINE_MAX_REQUESTS;
  state.requests += 1;
  connection.newest = exchange;
  connection.waiting.push(exchange);
  if (exchange.isShed) {
    stopParsing(connection.socket);
    stopRequests(connection);
  }
  if (connection.current === null) serveNext(state, connection);
}

/**
 * Answers bytes that are no request, or a time-out (node's clientError). While a body is being
 * read it is the fault of that request; else it is answered after all requests, and last.
 */
function handleParseError(
  state: ServerState,
  connection: HttpConnection,
  code: ErrorCode,
): void {
  const { newest, socket, isReadingStopped } = connection;
  if (newest !== null && !newest.req.complete) {
    if (newest.isAnswered && !isReadingStopped) socket.destroy();
    newest.bodyError ??= code;
    newest.reading?.fail(newest.bodyError);
    return;
  }
  closeWith(state, connection, closingErrorResponse(code));
}

/** Gives a last response that belongs to no request, after those of all requests. */
function closeWith(
  state: ServerState,
  connection: HttpConnection,
  response: HttpResponse,
): void {
  if (connection.isReadingStopped) return;
  connection.finalResponse = response;
  stopRequests(connection);
  if (connection.current === null) serveNext(state, connection);
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

/** Turns to the next request, or to the parting response when there is none. */
function serveNext(state: ServerState, connection: HttpConnection): void {
  const { socket, waiting, finalResponse } = connection;
  connection.current = null;
  // A client that is gone gets no response, so nothing is done for it either.
  if (!socket.writable) return abandon(state, connection);
  const next = waiting.shift();
  if (next !== undefined) {
    connection.current = next;
    next.res.on('finish', () => serveNext(state, connection));
    void serve(state, connection, next);
  } else if (finalResponse !== null) {
    connection.finalResponse = null;
    sendFinalResponse(state, connection, finalResponse);
  }
}

/** Finds the response and writes it; never rejects. */
async function serve(state: ServerState, connection: HttpConnection, exchange: Exchange) {
  const { requestId, route } = exchange;
  let response: HttpResponse | null;
  try {
    response = await respondTo(exchange, state);
  } catch (error) {
    response = responseForError(error, routeHeaders(exchange, state));
  }
  state.requests -= 1;
  if (response?.error !== undefined && state.log === null) {
    state.onError({ requestId, route: route?.path ?? '', error: response.error });
  }
  const isAnswered = response !== null && connection.socket.writable;
  if (response !== null && isAnswered) respond(state, connection, exchange, response);
  else connection.socket.destroy();
  finish(state, connection, exchange, response, isAnswered);
}

/** Counts a request that has ended, and tells the log. */
function finish(
  state: ServerState,
  { remoteAddress }: HttpConnection,
  exchange: Exchange,
  response: HttpResponse | null,
  isAnswered: boolean,
): void {
  const durationMs = state.routes.now() - exchange.startedAtMs;
  exchange.meter.count(response === null ? null : response.code, durationMs);
  logRequest(state, { exchange, response, isAnswered, durationMs, remoteAddress });
}

function respond(
  state: ServerState,
  connection: HttpConnection,
  exchange: Exchange,
  response: HttpResponse,
) {
  const mustClose = response.close || mustCloseConnection(exchange);
  const isIdle = connection.waiting.length === 0 && connection.finalResponse === null;
  const close = mustClose || (state.phase !== 'open' && isIdle);
  if (close) stopRequests(connection);
  exchange.isAnswered = true;
  writeResponse(exchange.res, response, exchange.requestId, close);
}

/** Answers a socket whose parser has made no request of the bytes. */
function sendFinalResponse(
  state: ServerState,
  { socket, remoteAddress }: HttpConnection,
  response: HttpResponse,
): void {
  const requestId = randomRequestId();
  writeResponse(createFinalResponse(socket), response, requestId, true);
  state.routes.other.count(response.code, null);
  logParseError(state, { requestId, response, remoteAddress });
}
