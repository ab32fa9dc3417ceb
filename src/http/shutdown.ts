/** Two ways to end a server: after the requests in flight, or after its clients have left. */
import type { Server } from 'node:http';
import type { OpenConnections, ServerState } from './connection.ts';
import { stopAccepting } from './node-internals.ts';

/**
 * Accepts no further connection and closes each open one with its next response. An idle
 * connection stays open for the keep-alive time, because its client may be about to send. Resolves
 * when the last connection is closed, or after the timeout.
 */
export function retire(server: Server, state: ServerState, timeoutMs: number): Promise<void> {
  state.phase = 'retiring';
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, timeoutMs);
    stopAccepting(server, () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/**
 * Accepts nothing further and answers the requests in flight. Destroys the remaining connections
 * after the timeout.
 *
 * @returns whether every complete request was answered
 */
export async function close(
  server: Server,
  state: ServerState,
  connections: OpenConnections,
  timeoutMs: number,
): Promise<boolean> {
  state.phase = 'stopping';
  const closed = new Promise<void>((resolve) => { server.close(() => resolve()); });
  for (const { socket, newest } of connections.values()) {
    // node:http closes idle connections, except those that have never sent a byte.
    if (newest === null && socket.bytesRead === 0) socket.destroy();
  }
  let isAnswered = true;
  const timer = setTimeout(() => {
    for (const { socket, current } of connections.values()) {
      if (current !== null && current.req.complete && !current.isAnswered) isAnswered = false;
      socket.destroy();
    }
  }, timeoutMs);
  await closed;
  clearTimeout(timer);
  return isAnswered;
}
