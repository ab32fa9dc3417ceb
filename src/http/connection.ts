/**
 * The connections of a server. Each serves its requests one at a time, in order, and answers the
 * errors that the parser reports.
 */
import type { IncomingMessage, Server as PlainServer, ServerResponse } from 'node:http';
import { Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { logParseError, logRequest } from './access-log.ts';
import type { AccessLog } from './access-log.ts';
import {
  mustCloseConnection, openExchange, respondTo, respondToConnect, routeHeaders,
} from './exchange.ts';
import type { Exchange } from './exchange.ts';
import { corsHeaders } from './input/browsers.ts';
import { parseAddress } from './input/client-ip.ts';
import { createFinalResponse, stopParsing, stopReading } from './node-internals.ts';
import {
  closingErrorResponse, responseForError, withHeaders, writeResponse,
} from './response.ts';
import type { HttpResponse, ErrorCode } from './response.ts';
import type { Routes } from './routes.ts';
import { randomRequestId } from '../otp/crypto/random.ts';

/** An error that no response shows; for the log. */
export type RequestError = Readonly<{ requestId: string; route: string; error: unknown }>;

/**
 * What an operator should know, because the configuration may not be the intended one:
 * - `proxy_not_trusted`: a peer names the client in X-Forwarded-For and is not trusted.
 * - `peer_connections_refused`: a peer has as many connections as one may have.
 */
export type Notice = 'proxy_not_trusted' | 'peer_connections_refused';

/** The state that all connections of a server share. */
export type ServerState = AccessLog & {
  readonly routes: Routes;
  readonly onError: (error: RequestError) => void;
  readonly onNotice: (notice: Notice) => void;
  /** True once a proxy that is not trusted has been noticed, or where none matters. */
  knowsProxies: boolean;
  readonly requestsMax: number;
  /** Requests in flight, waiting ones included, over all connections. */
  requests: number;
  phase: Phase;
};

/** A retiring server accepts no connections; a stopping one accepts no requests either. */
type Phase = 'open' | 'retiring' | 'stopping';

type HttpConnection = {
  readonly socket: Socket;
  /** Read at the start, because a closed socket has no address. */
  readonly remoteAddress: string | undefined;
  readonly waiting: Exchange[];
  /** The exchange being served, until its response has been written. */
  current: Exchange | null;
  /** The exchange received last: a parse error inside a body is an error of this one. */
  newest: Exchange | null;
  /** The response to a parse error, sent after the responses to all requests. */
  finalResponse: HttpResponse | null;
  isReadingStopped: boolean;
  /** True when the client has closed its side; it still reads. */
  isHalfClosed: boolean;
};

/** Pipelined requests that may wait; browsers that used pipelining sent fewer. */
const PIPELINE_MAX_REQUESTS = 16;

export type OpenConnections = Map<Socket, HttpConnection>;

/** The codes of parse errors; any other parse error is `invalid_request`. */
const PARSER_ERRORS: ReadonlyMap<string, ErrorCode> = new Map([
  ['HPE_HEADER_OVERFLOW', 'headers_too_large'],
  ['HPE_CHUNK_EXTENSIONS_OVERFLOW', 'payload_too_large'],
  ['ERR_HTTP_REQUEST_TIMEOUT', 'request_timeout'],
]);

/** Passes every event of node:http to its connection. */
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
  // A plain request on the TLS port fails the handshake and never becomes a connection here.
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
    if (connection === undefined) return;
    closeWith(state, connection, respondToConnect(req, state, state.routes));
  });
  server.on('clientError', (error: NodeJS.ErrnoException, stream) => {
    const connection = connections.get(stream as Socket);
    const code = PARSER_ERRORS.get(error.code ?? '') ?? 'invalid_request';
    // An unwritable stream means that the client has disconnected, as with ECONNRESET.
    if (connection === undefined || !stream.writable) stream.destroy();
    else handleParseError(state, connection, code);
  });
  return connections;
}

function openHttpConnection(socket: Socket): HttpConnection {
  // node:http removes its own listener after CONNECT and after a first error.
  socket.on('error', () => socket.destroy());
  const connection: HttpConnection = {
    socket, remoteAddress: socket.remoteAddress, waiting: [], current: null, newest: null,
    finalResponse: null,
    isReadingStopped: false, isHalfClosed: false,
  };
  socket.once('end', () => { connection.isHalfClosed = true; });
  return connection;
}

/** Queues a request behind the earlier ones of its connection, or marks it as shed. */
function accept(
  state: ServerState,
  connection: HttpConnection,
  req: IncomingMessage,
  res: ServerResponse,
): void {
  if (connection.isReadingStopped) return;
  const exchange = openExchange(req, res, state.routes);
  if (!state.knowsProxies) noticeProxy(state, connection, exchange);
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

/** Notices the first request that a proxy has forwarded without being trusted. */
function noticeProxy(
  state: ServerState,
  { remoteAddress = '' }: HttpConnection,
  { headers: { forwardedFor, hasForwarded } }: Exchange,
): void {
  if (forwardedFor === '' && !hasForwarded) return;
  const address = parseAddress(remoteAddress);
  if (address === null || state.proxies.has(address)) return;
  state.knowsProxies = true;
  state.onNotice('proxy_not_trusted');
}

/**
 * Answers malformed bytes or a time-out. An error inside a body decides the response to its
 * request; any other error is answered last, after all requests.
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

/** Sends a response that belongs to no request after all others, then closes. */
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

/** Drops the waiting requests of a closed socket; the current one ends by itself. */
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

/** Serves the next request or, without one, sends the final response. */
function serveNext(state: ServerState, connection: HttpConnection): void {
  const { socket, waiting, finalResponse } = connection;
  connection.current = null;
  // No operation runs for a client that cannot receive its response.
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

/** Determines the response and writes it. Never rejects. */
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
    state.onError({ requestId, route: route.path, error: response.error });
  }
  const isAnswered = response !== null && connection.socket.writable;
  if (response !== null && isAnswered) respond(state, connection, exchange, response);
  else connection.socket.destroy();
  finish(state, connection, exchange, response, isAnswered);
}

/** Counts and logs a finished request. */
function finish(
  state: ServerState,
  { remoteAddress }: HttpConnection,
  exchange: Exchange,
  response: HttpResponse | null,
  isAnswered: boolean,
): void {
  const durationMs = state.routes.now() - exchange.startedAtMs;
  exchange.route.meter.count(response === null ? null : response.code, durationMs);
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
  const isLast = state.phase !== 'open' || connection.isHalfClosed;
  const close = mustClose || (isLast && isIdle);
  if (close) stopRequests(connection);
  exchange.isAnswered = true;
  const cors = corsHeaders(exchange.headers, state.browsers);
  writeResponse(exchange.res, withHeaders(response, cors), exchange.requestId, close);
}

/** Answers a parse error, for which node:http provides no response object. */
function sendFinalResponse(
  state: ServerState,
  { socket, remoteAddress }: HttpConnection,
  response: HttpResponse,
): void {
  const requestId = randomRequestId();
  writeResponse(createFinalResponse(socket), response, requestId, true);
  state.routes.other.meter.count(response.code, null);
  logParseError(state, { requestId, response, remoteAddress });
}
