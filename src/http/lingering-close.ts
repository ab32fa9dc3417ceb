/**
 * Lingering close of a connection whose client may still be sending. Closing at once would reset
 * the connection, and the client would lose the response; reading without a bound would let the
 * client send forever (RFC 9112, 9.6).
 */
import type { Socket } from 'node:net';
import { bypassParser, onLastResponse } from './node-internals.ts';

/** Bytes read and discarded after the last request: small uploads end without a reset. */
const DISCARD_MAX_BYTES = 64 * 1024;

/** The time that the client has to read the last response. */
const LINGER_TIMEOUT_MS = 1000;

/**
 * Reads no further request from a socket. Up to DISCARD_MAX_BYTES are discarded, and then the
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
