/** The transport of the tests in this folder: plain TCP, or TLS after a call of speakTls. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { connect as connectSecurely } from 'node:tls';
import type { ConnectionOptions } from 'node:tls';
import { createCertificate } from '../harness/certificate.ts';
import type { Certificate } from '../harness/certificate.ts';

const HOST = '127.0.0.1';

let certificate: Certificate | null = null;

/** Gives later servers a certificate that later clients trust. */
export function speakTls(): void {
  certificate = createCertificate();
}

/** The certificate of the servers; null while they use plain HTTP. */
export function certificateInUse(): Certificate | null {
  return certificate;
}

/** A connection that is being opened. */
export type PendingConnection = Readonly<{
  socket: Socket;
  /** The event after which bytes can be sent. */
  connected: 'connect' | 'secureConnect';
  /** Resets the connection. */
  reset: () => void;
}>;

/** Starts a connection to a server on this machine. */
export function connectTo(port: number, options: ConnectionOptions = {}): PendingConnection {
  const plain = connect({ port, host: HOST, allowHalfOpen: true });
  const reset = (): void => { plain.resetAndDestroy(); };
  if (certificate === null) return { socket: plain, connected: 'connect', reset };
  const socket = connectSecurely({ socket: plain, host: HOST, ca: certificate.cert, ...options });
  return { socket, connected: 'secureConnect', reset };
}
