/** Where the socket of the private server is: in its folder, or elsewhere when that is too deep. */
import { createHash } from 'node:crypto';
import { lstat, mkdir, rm } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { errorCode, LocalServerError } from './local-server-error.ts';

/** The kernel's limit is 107 on Linux and 103 on macOS (sun_path of sockaddr_un, without NUL). */
export const SOCKET_PATH_MAX_BYTES = 100;

const SOCKET_NAME = 'mysqld.sock';

/**
 * The path of the socket. When the one in the folder would be too long, a folder of our own
 * under the system's temporary folder takes it, the same one at each start.
 *
 * @param folder the server's folder, as a real path
 * @throws LocalServerError when that folder exists and is not ours alone
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

/**
 * Removes the folder that `prepareSocketPath` made elsewhere, if it made one.
 *
 * @param folder the server's folder, as a real path
 */
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

/** Anyone may have made the folder before us: it must be a folder, ours, and closed to others. */
async function makeOwnFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
  }
  if (await isOwnFolder(path)) return;
  throw new LocalServerError([
    `The folder ${path} exists, but is not a private folder of this user.`,
    'otpd needs it for a socket, and will not use a folder that others can enter.',
    'Remove it, or move the project to a folder with a shorter path.',
  ]);
}

/** Of the folder itself: a link to elsewhere is not ours. */
async function isOwnFolder(path: string): Promise<boolean> {
  try {
    const found = await lstat(path);
    return found.isDirectory() && found.uid === userInfo().uid && (found.mode & 0o077) === 0;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw error;
  }
}

function tooLong(folder: string, temporaryFolder: string): LocalServerError {
  return new LocalServerError([
    `The paths ${folder} and ${temporaryFolder} are both too long for a socket.`,
    `A socket's path has at most ${SOCKET_PATH_MAX_BYTES} bytes.`,
    'Move the project to a folder with a shorter path, or set TMPDIR to a short one.',
  ]);
}
