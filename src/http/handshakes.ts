/** Connections whose TLS handshake is not over: no request of theirs can be under way. */
import type { Server } from 'node:https';
import type { Socket } from 'node:net';

/** What names a connection to one listener for as long as it lives: the other end of it. */
function nameOf({ remoteAddress, remotePort, localAddress }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress}`;
}

/**
 * Keeps the handshakes of a server in view. node:tls bounds their time, but closing the server
 * would wait for them.
 *
 * @returns a function that breaks off those that are under way
 */
export function watchHandshakes(server: Server): () => void {
  const underWay = new Map<string, Socket>();
  server.on('connection', (socket: Socket) => {
    const name = nameOf(socket);
    underWay.set(name, socket);
    socket.once('close', () => {
      if (underWay.get(name) === socket) underWay.delete(name);
    });
  });
  server.on('secureConnection', (socket) => underWay.delete(nameOf(socket)));
  return () => {
    for (const socket of underWay.values()) socket.destroy();
  };
}
