/** The TLS settings of a listener, and the connections whose handshake is in progress. */
import type { Server } from 'node:https';
import type { Socket } from 'node:net';
import { createSecureContext } from 'node:tls';
import type { SecureContextOptions } from 'node:tls';

/** Identifies a connection: before and after the handshake it has different socket objects. */
function handshakeKey({ remoteAddress, remotePort, localAddress }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress}`;
}

/**
 * Tracks the handshakes of a server. node:tls bounds their time, but `close` of the server would
 * wait for them.
 *
 * @returns a function that aborts the handshakes in progress
 */
export function trackHandshakes(server: Server): () => void {
  const handshakes = new Map<string, Socket>();
  server.on('connection', (socket: Socket) => {
    const key = handshakeKey(socket);
    handshakes.set(key, socket);
    socket.once('close', () => {
      if (handshakes.get(key) === socket) handshakes.delete(key);
    });
  });
  server.on('secureConnection', (socket) => handshakes.delete(handshakeKey(socket)));
  return () => {
    for (const socket of handshakes.values()) socket.destroy();
  };
}

/** PEM: a private key, and its certificate followed by the intermediate ones. */
export type Certificate = Readonly<{ cert: string; key: string }>;

/** The protocols for ALPN (RFC 7301). */
export const PROTOCOLS = Object.freeze(['http/1.1']);

/** TLS 1.2 is the minimum (RFC 9325, 3.1.1). */
export function secureOptions({ cert, key }: Certificate): SecureContextOptions {
  return { cert, key, minVersion: 'TLSv1.2' };
}

/** Throws the error of OpenSSL when a certificate is unusable. */
export function tryCertificate(certificate: Certificate): void {
  createSecureContext(secureOptions(certificate));
}
