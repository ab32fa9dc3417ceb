/**
 * Behaviour of node:http on which otpd relies although its documentation does not promise it.
 * Checked on Node 20.20, 22.23 and 24.21; a test per function fails where the behaviour is gone.
 */
import type { Buffer } from 'node:buffer';
import { IncomingMessage, ServerResponse } from 'node:http';
import type { Server as HttpServer } from 'node:http';
import { Server as NetServer } from 'node:net';
import type { Socket } from 'node:net';

type NextRequest = (next: { upgrade: boolean }) => number;
type ParsedSocket = Socket & { parser?: { onIncoming?: NextRequest } | null };

/** The value of `onIncoming` on which llhttp pauses after a header section, as for an upgrade. */
const PAUSE = 2;

/**
 * Stops parsing the current bytes at the next request. Called while the bytes are parsed: otherwise
 * 200 requests that arrive in one piece become 200 objects, which costs more than answering those
 * that are served. Without `socket.parser` only that time is lost.
 */
export function stopParsing(socket: Socket): void {
  const { parser } = socket as ParsedSocket;
  if (!parser) return;
  parser.onIncoming = (next) => {
    next.upgrade = false;
    return PAUSE;
  };
}

/**
 * Gives the bytes of a socket to a listener instead of the HTTP parser: adding a listener returns
 * the socket from the parser to the stream, and removing the earlier ones detaches the parser.
 */
export function bypassParser(socket: Socket, onData: (chunk: Buffer) => void): void {
  socket.on('data', onData);
  for (const listener of socket.listeners('data').slice(0, -1)) {
    socket.off('data', listener as (chunk: Buffer) => void);
  }
}

/** Replaces what node:http does with a socket after its last response has been written. */
export function onLastResponse(socket: Socket, close: () => void): void {
  socket.destroySoon = close;
}

/** Bytes read and discarded after the last request: small uploads end without a reset. */
const DISCARD_MAX_BYTES = 64 * 1024;

/** The time that the client has to read the last response. */
const LINGER_TIMEOUT_MS = 1000;

/**
 * Reads no further request from a socket whose client may still be sending. Closing at once would
 * reset the connection, and the client would lose the response; reading without a bound would let
 * the client send forever (RFC 9112, 9.6). So up to DISCARD_MAX_BYTES are discarded, and then the
 * socket is paused. After the last response the sending side closes; the socket closes when the
 * client closes its side, or after LINGER_TIMEOUT_MS.
 */
export function stopReading(socket: Socket): void {
  let discardedBytes = 0;
  let isClosing = false;
  bypassParser(socket, (chunk) => {
    discardedBytes += chunk.length;
    if (discardedBytes > DISCARD_MAX_BYTES) socket.pause();
  });
  onLastResponse(socket, () => {
    if (isClosing || socket.destroyed) return;
    isClosing = true;
    socket.end();
    const timer = setTimeout(() => socket.destroy(), LINGER_TIMEOUT_MS);
    socket.once('close', () => clearTimeout(timer));
  });
}

/**
 * Makes node:http answer the requests of a client that has closed its side, and close after the
 * last response. By default it closes at once, although the client waits for its responses.
 */
export function answerHalfClosed(server: HttpServer): void {
  (server as HttpServer & { httpAllowHalfOpen?: boolean }).httpAllowHalfOpen = true;
}

/**
 * Stops accepting connections and calls back when the last one is gone. Unlike the `close` of
 * node:http this keeps idle connections open and their time limits in force.
 */
export function stopAccepting(server: HttpServer, onClosed: () => void): void {
  NetServer.prototype.close.call(server, onClosed);
}

/** A response on a socket whose bytes the parser has not turned into a request. */
export function createFinalResponse(socket: Socket): ServerResponse {
  const res = new ServerResponse(new IncomingMessage(socket));
  res.assignSocket(socket);
  res.once('finish', () => {
    res.detachSocket(socket);
    socket.destroySoon();
  });
  return res;
}
