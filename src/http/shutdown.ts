/** Two ways to end a server: after the requests in flight, or after its clients have left. */
import type { Server } from 'node:http';
import type { OpenConnections, ServerState } from './connection.ts';
import { stopAccepting } from './node-internals.ts';

/**
 * The time in which a connection in use is closed by its next response. A connection that is idle
 * for longer is closed: the longer it has been idle, the less likely its client is about to send.
 */
const IDLE_MAX_MS = 1000;

/**
 * Accepts no further connection, closes each open one with its next response, and the idle ones
 * after IDLE_MAX_MS. Resolves when the last connection is closed, or after the timeout.
 */
export function retire(
  server: Server,
  state: ServerState,
  connections: OpenConnections,
  timeoutMs: number,
): Promise<void> {
  state.phase = 'retiring';
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, timeoutMs);
    const idleTimer = setTimeout(() => void closeIdle(server, connections), IDLE_MAX_MS);
    stopAccepting(server, () => {
      clearTimeout(timer);
      clearTimeout(idleTimer);
      resolve();
    });
  });
}

/**
 * Accepts nothing further, answers the requests in flight and closes the idle connections.
 * Destroys the remaining connections after the timeout.
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
  const closed = new Promise<void>((resolve) => { stopAccepting(server, () => resolve()); });
  let isAnswered = true;
  const timer = setTimeout(() => {
    for (const { socket, current } of connections.values()) {
      if (current !== null && current.req.complete && !current.isAnswered) isAnswered = false;
      socket.destroy();
    }
  }, timeoutMs);
  await closeIdle(server, connections);
  await closed;
  clearTimeout(timer);
  return isAnswered;
}

/** Closes the connections without a request, including those that have never had one. */
async function closeIdle(server: Server, connections: OpenConnections): Promise<void> {
  // A request that has arrived is read first: two turns of the event loop read all that is there.
  await new Promise((resolve) => { setImmediate(() => setImmediate(resolve)); });
  server.closeIdleConnections();
  for (const { socket, newest } of connections.values()) {
    // node:http takes a connection that has never sent a byte for one that is about to.
    if (newest === null && socket.bytesRead === 0) socket.destroy();
  }
}
