/**
 * Closing a connection on a client that may still be sending. Closing at once would reset it and
 * the client would lose the answer; reading on would let it send for ever (RFC 9112, 9.6).
 */
import type { Buffer } from 'node:buffer';
import type { Socket } from 'node:net';

/** What is read and thrown away after the last request: as much as a careful proxy does. */
const DISCARD_MAX_BYTES = 64 * 1024;

/** How long the client has to read the last answer. */
const LINGER_TIMEOUT_MS = 1000;

/** The parser is not in the documentation of node:http: were it gone, only time would be lost. */
type ParsedSocket = Socket & { parser?: { onIncoming?: NextRequest } | null };
type NextRequest = (next: { upgrade: boolean }) => number;

/** What a parser is told of a request that it shall not read on from (node:http, skipBody). */
const STOP = 2;

/**
 * Ends the parsing of the bytes at hand with the next request. Called while they are parsed: else
 * a client that sends 200 requests in one piece has all of them made into objects, which costs
 * more than to answer those that are served.
 *
 * @param socket one from which no further request is taken
 */
export function stopParsing(socket: Socket): void {
  const { parser } = socket as ParsedSocket;
  if (!parser) return;
  parser.onIncoming = (next) => {
    next.upgrade = false;
    return STOP;
  };
}

/**
 * Takes the socket away from the parser: no further request is read from it. Up to
 * DISCARD_MAX_BYTES are thrown away, then the client is left to wait. When the last answer has
 * been written (node:http then calls destroySoon), the sending side is closed, and the socket is
 * gone when the client closes too or after LINGER_TIMEOUT_MS.
 */
export function stopReading(socket: Socket): void {
  let discarded = 0;
  let ending = false;
  // Adding a listener makes node:http give the bytes to the stream instead of to the parser.
  socket.on('data', (chunk: Buffer) => {
    discarded += chunk.length;
    if (discarded > DISCARD_MAX_BYTES) socket.pause();
  });
  for (const listener of socket.listeners('data').slice(0, -1)) {
    socket.off('data', listener as (chunk: Buffer) => void);
  }
  socket.destroySoon = () => {
    if (ending || socket.destroyed) return;
    ending = true;
    socket.end();
    const timer = setTimeout(() => socket.destroy(), LINGER_TIMEOUT_MS);
    socket.once('close', () => clearTimeout(timer));
  };
}
