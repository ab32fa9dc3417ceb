/** Finds the private server that another otpd runs, for commands that work beside it. */
import { once } from 'node:events';
import { realpath } from 'node:fs/promises';
import { connect } from 'node:net';
import { errorCode } from './local-server-error.ts';
import { prepareSocketPath } from './socket-path.ts';

/** Nobody listens there: no folder, no socket, or one that a killed server left. */
const NOT_RUNNING: ReadonlySet<string> = new Set(['ENOENT', 'ECONNREFUSED']);

/**
 * Looks for a running server.
 *
 * @param folder the folder of the private server
 * @returns the path of its socket, or null when none runs
 */
export async function findRunningServer(folder: string): Promise<string | null> {
  try {
    const socketPath = await prepareSocketPath(await realpath(folder));
    const socket = connect(socketPath);
    await once(socket, 'connect');
    socket.destroy();
    return socketPath;
  } catch (error) {
    if (NOT_RUNNING.has(errorCode(error) ?? '')) return null;
    throw error;
  }
}
