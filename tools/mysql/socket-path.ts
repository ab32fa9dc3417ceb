/** The path of a server's socket: inside its folder, or elsewhere when that path is too long. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { lstat, mkdir, rm, realpath } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { MysqlServerError, errorCode } from './error.ts';

/** The kernel's limit is 107 on Linux and 103 on macOS (sun_path of sockaddr_un, without NUL). */
export const SOCKET_PATH_MAX_BYTES = 100;

const SOCKET_NAME = 'mysqld.sock';

/**
 * Returns the path of the socket. When the path in the folder is too long, the socket goes into a
 * folder below the temporary folder of the system, the same one at each start.
 *
 * @param folder the folder of the server, as a real path
 * @throws MysqlServerError when other users can enter that temporary folder
 */
export async function prepareSocketPath(
  folder: string,
  temporaryFolder: string = tmpdir(),
): Promise<string> {
  if (fitsIn(folder)) return join(folder, SOCKET_NAME);
  const short = shortFolder(folder, temporaryFolder);
  if (!fitsIn(short)) throw tooLong(folder, temporaryFolder);
  await makeOwnFolder(short);
  return join(short, SOCKET_NAME);
}

/** Removes the temporary folder that `prepareSocketPath` has created for a long path. */
export async function removeSocketFolder(
  folder: string,
  temporaryFolder: string = tmpdir(),
): Promise<void> {
  if (fitsIn(folder)) return;
  const short = shortFolder(folder, temporaryFolder);
  if (await isOwnFolder(short)) await rm(short, { recursive: true, force: true });
}

function fitsIn(folder: string): boolean {
  return Buffer.byteLength(join(folder, SOCKET_NAME)) <= SOCKET_PATH_MAX_BYTES;
}

function shortFolder(folder: string, temporaryFolder: string): string {
  const name = createHash('sha256').update(folder).digest('hex').slice(0, 16);
  return join(temporaryFolder, `otpd-${userInfo().uid}-${name}`);
}

/** Another user may have created the path first: it is used only if it is private. */
async function makeOwnFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
  }
  if (await isOwnFolder(path)) return;
  throw new MysqlServerError([
    `${path} exists, and is not a private folder of this user.`,
    'MySQL needs it for a socket, because the path of the project is too long.',
    'Remove it, or move the project to a shorter path.',
  ]);
}

/** lstat, because a link may lead to a folder of another user. */
async function isOwnFolder(path: string): Promise<boolean> {
  try {
    const found = await lstat(path);
    return found.isDirectory() && found.uid === userInfo().uid && (found.mode & 0o077) === 0;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw error;
  }
}

function tooLong(folder: string, temporaryFolder: string): MysqlServerError {
  return new MysqlServerError([
    `The paths ${folder} and ${temporaryFolder} are both too long for a socket, which has at most`,
    `${SOCKET_PATH_MAX_BYTES} bytes. Move the project to a shorter path, or set TMPDIR to one.`,
  ]);
}

/** No folder, no socket, or the socket of a server that was killed. */
const NOT_RUNNING: ReadonlySet<string> = new Set(['ENOENT', 'ECONNREFUSED']);

/** The socket of the server that runs in a folder; null when none runs. */
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
