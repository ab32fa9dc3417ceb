/**
 * A proxy on a unix socket between service and mysqld. It fails when the test says so: at one
 * COMMIT, or for every connection.
 */
import { createServer, connect } from 'node:net';
import type { Socket } from 'node:net';

/**
 * The fate of a COMMIT: the connection is cut before it reaches the server or before its response
 * reaches the service, or nothing passes from either point on.
 */
export type CommitFault = 'cut before' | 'cut after' | 'silent before' | 'silent after';

export type CuttingProxy = Readonly<{
  socketPath: string;
  /** Applies the fault to the next COMMIT, then calls `onHit`. */
  spoilCommit: (fault: CommitFault, onHit?: () => void) => void;
  /** Throws if the fault of `spoilCommit` has not been applied. */
  assertHit: () => void;
  /** `silent` drops all data, also of new connections; `closed` closes every connection. */
  setMode: (mode: 'pass' | 'silent' | 'closed') => void;
  /**
   * Loses the connections of this moment; new ones pass. `swallow` drops their bytes and tells
   * neither side, as a router does that forgets its flows; `reset` cuts each at its next byte.
   * Returns a function that lets the server notice.
   */
  lose: (how: 'swallow' | 'reset') => () => void;
  close: () => Promise<void>;
}>;

/**
 * The last statement of a round trip that writes. A text value ends in a quote, never in COMMIT.
 */
const COMMIT_TEXT = 'COMMIT';

function isCommit(chunk: Buffer): boolean {
  return chunk.subarray(-COMMIT_TEXT.length).toString('latin1') === COMMIT_TEXT;
}

type Armed = { fault: CommitFault; onHit: () => void };

export async function startCuttingProxy(
  serverPath: string,
  socketPath: string,
): Promise<CuttingProxy> {
  let armed: Armed | null = null;
  let mode: 'pass' | 'silent' | 'closed' = 'pass';
  const sockets = new Set<Socket>();
  /** Loses a pair of sockets, and returns the one of the server. */
  const losers = new Set<(how: 'swallow' | 'reset') => Socket>();

  const join = (client: Socket): void => {
    const server = connect(serverPath);
    let state: 'pass' | 'silent' | 'cut answer' | 'swallow' | 'reset' = 'pass';
    const cut = () => {
      losers.delete(lose);
      client.destroy();
      // The server never hears that a lost client has closed.
      if (state !== 'swallow') server.destroy();
    };
    const lose = (how: 'swallow' | 'reset') => {
      state = how;
      return server;
    };
    losers.add(lose);
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', cut);
      socket.on('close', () => { sockets.delete(socket); cut(); });
    }
    client.on('data', (chunk) => {
      if (state === 'reset') return cut();
      if (state === 'silent' || state === 'swallow' || mode === 'silent') return;
      const hit = isCommit(chunk) ? armed : null;
      if (hit === null) { server.write(chunk); return; }
      armed = null;
      if (hit.fault.endsWith('after')) server.write(chunk);
      if (hit.fault === 'cut after') state = 'cut answer';
      else if (hit.fault === 'cut before') cut();
      else state = 'silent';
      hit.onHit();
    });
    server.on('data', (chunk) => {
      if (state === 'silent' || state === 'swallow' || mode === 'silent') return;
      if (state === 'cut answer') cut();
      else client.write(chunk);
    });
  };

  const listener = createServer((client) => {
    if (mode === 'closed') client.destroy();
    else join(client);
  });
  await new Promise<void>((resolve) => { listener.listen(socketPath, resolve); });
  const cutAll = () => { for (const socket of sockets) socket.destroy(); };
  return {
    socketPath,
    spoilCommit: (fault, onHit = () => {}) => { armed = { fault, onHit }; },
    assertHit: () => { if (armed !== null) throw new Error('no COMMIT came'); },
    setMode: (wanted) => {
      mode = wanted;
      if (wanted === 'closed') cutAll();
    },
    lose: (how) => {
      const lost = [...losers].map((lose) => lose(how));
      losers.clear();
      return () => { for (const socket of lost) socket.destroy(); };
    },
    close: async () => {
      const closed = new Promise((resolve) => { listener.close(resolve); });
      cutAll();
      await closed;
    },
  };
}
