/** Connections whose TLS handshake is not over: no request of theirs can be under way. */
import type { Server } from 'node:https';
import type { Socket } from 'node:net';
import { createSecureContext } from 'node:tls';
import type { SecureContextOptions } from 'node:tls';

/** What names a connection to one listener for as long as it lives: the other end of it. */
function handshakeKey({ remoteAddress, remotePort, localAddress }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress}`;
}

/**
 * Keeps the handshakes of a server in view. node:tls bounds their time, but closing the server
 * would wait for them.
 *
 * @returns a function that breaks off those that are under way
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

/** A private key, and its certificate with those of the authorities in between: PEM texts. */
export type Certificate = Readonly<{ cert: string; key: string }>;

/** The protocols that are offered during the handshake (RFC 7301). */
export const PROTOCOLS = Object.freeze(['http/1.1']);

/** The settings of a listener with a certificate (RFC 9325, 3.1.1: TLS 1.2 at least). */
export function secureOptions({ cert, key }: Certificate): SecureContextOptions {
  return { cert, key, minVersion: 'TLSv1.2' };
}

/**
 * Whether connections can be answered with a certificate.
 *
 * @throws Error saying what OpenSSL finds wrong with it
 */
export function tryCertificate(certificate: Certificate): void {
  createSecureContext(secureOptions(certificate));
}
