/** The two ways in which a server ends: at once but for what is in flight, or as clients allow. */
import type { Server } from 'node:http';
import type { OpenConnections, ServerState } from './connection.ts';
import { stopAccepting } from './node-internals.ts';

/**
 * Stops accepting, and serves the connections that there are until their clients know: each is
 * told with its next answer that it was the last. An idle one lives on for as long as it always
 * does, for its client may be about to send, and would get no answer.
 *
 * @returns resolves when the last connection is gone, at the bound at the latest
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
 * Stops accepting, and answers what is in flight; what is new is not begun.
 *
 * @returns when the last connection is gone, or was destroyed at the bound: whether every request
 *   that had come as a whole was answered
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
    // node:http closes the connections that are idle, but not those that never said anything.
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
