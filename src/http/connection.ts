/**
 * The requests of one socket, one after the other and in order, and the faults that the parser
 * reports beside them. At most one request of a socket is being worked on.
 */
import { randomUUID } from 'node:crypto';
import { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { noteNoRequest, noteRequest } from './access-log.ts';
import type { Teller } from './access-log.ts';
import { answerTo, headersOf, openExchange, spoilsConnection } from './exchange.ts';
import type { Exchange } from './exchange.ts';
import { stopParsing, stopReading } from './lingering-close.ts';
import { failed, respond } from './response.ts';
import type { Answer, ErrorCode } from './response.ts';
import type { Routes } from './router.ts';

/** An error that no answer shows: in full, for the log. */
export type Fault = Readonly<{ requestId: string; route: string; error: unknown }>;

/** What all connections of a server share. */
export type ServerState = Teller & {
  readonly routes: Routes;
  readonly onFault: (fault: Fault) => void;
  readonly requestsMax: number;
  /** Requests that are waiting or being worked on, over all connections. */
  requests: number;
  phase: Phase;
};

/** A server that retires or stops takes no connection; one that stops takes no request either. */
type Phase = 'open' | 'retiring' | 'stopping';

/** One socket. */
export type Connection = {
  readonly socket: Socket;
  /** Its address; a socket that is gone does not know it any more. */
  readonly peer: string | undefined;
  readonly waiting: Exchange[];
  /** The exchange whose turn it is, until its answer has been written. */
  current: Exchange | null;
  /** The exchange that came last: a fault in a body is a fault of its body. */
  newest: Exchange | null;
  /** The answer to what was no request, given after all requests. */
  parting: Answer | null;
  /** No further request is taken from this socket. */
  sealed: boolean;
};

/** Pipelined requests that may wait: as many as a browser's connection ever had. */
const PIPELINE_MAX_REQUESTS = 16;

/** Begins to keep a socket. */
export function openConnection(socket: Socket): Connection {
  // node:http takes its own listener away from sockets of CONNECT and after a first error.
  socket.on('error', () => socket.destroy());
  return {
    socket, peer: socket.remoteAddress, waiting: [], current: null, newest: null, parting: null,
    sealed: false,
  };
}

/** Takes a request: it is served when those before it have been answered. */
export function accept(
  state: ServerState,
  connection: Connection,
  req: IncomingMessage,
  res: ServerResponse,
): void {
  if (connection.sealed) return;
  const exchange = openExchange(req, res, state.routes);
  exchange.refused = state.phase === 'stopping' || state.requests >= state.requestsMax
    || connection.waiting.length >= PIPELINE_MAX_REQUESTS;
  state.requests += 1;
  connection.newest = exchange;
  connection.waiting.push(exchange);
  if (exchange.refused) {
    stopParsing(connection.socket);
    seal(connection);
  }
  if (connection.current === null) advance(state, connection);
}

/**
 * Answers bytes that are no request, or a time-out (node's clientError). While a body is being
 * read it is the fault of that request; else it is answered after all requests, and last.
 */
export function refuseBytes(state: ServerState, connection: Connection, code: ErrorCode,
  answer: Answer): void {
  const { newest, socket, sealed } = connection;
  if (newest !== null && !newest.req.complete) {
    if (newest.answered && !sealed) socket.destroy();
    newest.fault ??= code;
    newest.reading?.fail(newest.fault);
    return;
  }
  part(state, connection, answer);
}

/** Gives a last answer that belongs to no request, after those of all requests. */
export function part(state: ServerState, connection: Connection, answer: Answer): void {
  if (connection.sealed) return;
  connection.parting = answer;
  seal(connection);
  if (connection.current === null) advance(state, connection);
}

/** Forgets the requests of a socket that is gone; one being worked on ends by itself. */
export function drop(state: ServerState, connection: Connection): void {
  for (const exchange of connection.waiting.splice(0)) {
    state.requests -= 1;
    conclude(state, connection, exchange, null, false);
  }
}

function seal(connection: Connection): void {
  if (connection.sealed) return;
  connection.sealed = true;
  stopReading(connection.socket);
}

/** Turns to the next request, or to the parting answer when there is none. */
function advance(state: ServerState, connection: Connection): void {
  const { socket, waiting, parting } = connection;
  connection.current = null;
  // A client that is gone gets no answer, so nothing is done for it either.
  if (!socket.writable) return drop(state, connection);
  const next = waiting.shift();
  if (next !== undefined) {
    connection.current = next;
    next.res.on('finish', () => advance(state, connection));
    void serve(state, connection, next);
  } else if (parting !== null) {
    connection.parting = null;
    giveParting(state, connection, parting);
  }
}

/** Finds the answer and writes it; never rejects. */
async function serve(state: ServerState, connection: Connection, exchange: Exchange) {
  const { requestId, route } = exchange;
  let answer: Answer | null;
  try {
    answer = await answerTo(exchange, state);
  } catch (error) {
    answer = failed(error, headersOf(exchange, state));
  }
  state.requests -= 1;
  if (answer?.fault !== undefined && state.log === null) {
    state.onFault({ requestId, route: route?.path ?? '', error: answer.fault });
  }
  const isAnswered = answer !== null && connection.socket.writable;
  if (answer !== null && isAnswered) write(state, connection, exchange, answer);
  else connection.socket.destroy();
  conclude(state, connection, exchange, answer, isAnswered);
}

/** Counts a request that has ended, and tells the log. */
function conclude(
  state: ServerState,
  { peer }: Connection,
  exchange: Exchange,
  answer: Answer | null,
  isAnswered: boolean,
): void {
  const { meter, begunAtMs } = exchange;
  const durationMs = meter.end(begunAtMs, answer === null ? null : answer.code);
  noteRequest(state, { exchange, answer, isAnswered, durationMs, peer });
}

function write(state: ServerState, connection: Connection, exchange: Exchange, answer: Answer) {
  const broken = answer.close || spoilsConnection(exchange);
  const idle = connection.waiting.length === 0 && connection.parting === null;
  const close = broken || (state.phase !== 'open' && idle);
  if (close) seal(connection);
  exchange.answered = true;
  respond(exchange.res, answer, exchange.requestId, close);
}

/** Answers a socket whose parser has made no request of the bytes. */
function giveParting(state: ServerState, { socket, peer }: Connection, answer: Answer): void {
  const requestId = randomUUID();
  writeParting(socket, answer, requestId);
  state.routes.other.count(answer.code);
  noteNoRequest(state, { requestId, answer, peer });
}

function writeParting(socket: Socket, answer: Answer, requestId: string): void {
  const res = new ServerResponse(new IncomingMessage(socket));
  res.assignSocket(socket);
  res.once('finish', () => {
    res.detachSocket(socket);
    socket.destroySoon();
  });
  respond(res, answer, requestId, true);
}
