/**
 * Closing a connection on a client that may still be sending. Closing at once would reset it and
 * the client would lose the answer; reading on would let it send for ever (RFC 9112, 9.6).
 */
import type { Socket } from 'node:net';
import { bypassParser, onLastResponse } from './node-internals.ts';

/** What is read and thrown away after the last request: as much as a careful proxy does. */
const DISCARD_MAX_BYTES = 64 * 1024;

/** How long the client has to read the last answer. */
const LINGER_TIMEOUT_MS = 1000;

/**
 * Takes the socket away from the parser: no further request is read from it. Up to
 * DISCARD_MAX_BYTES are thrown away, then the client is left to wait. When the last answer has
 * been written (node:http then calls destroySoon), the sending side is closed, and the socket is
 * gone when the client closes too or after LINGER_TIMEOUT_MS.
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
