/**
 * The MySQL server of a folder: obtains mysqld, creates the data once, serves the data on a Unix
 * socket, and stops mysqld. The development MySQL, the tests and the benchmark use it.
 */
import { mkdir, chmod, realpath, rename, rm } from 'node:fs/promises';
import { CrashLoop } from '../../src/app/process/shutdown.ts';
import { initialise, needsInitialising, recordVersion } from './data-folder.ts';
import { MysqlServerError, errorCode } from './error.ts';
import { obtainMysqld } from './fetch/obtain.ts';
import { startMysqld } from './mysqld-process.ts';
import type { MysqldProcess } from './mysqld-process.ts';
import { identifyingArguments, serverFiles } from './mysqld.ts';
import type { ServerFiles, Mysqld } from './mysqld.ts';
import { claimOwnership } from './owner.ts';
import { endProcess, processesWithArguments } from './processes.ts';
import { prepareSocketPath, removeSocketFolder } from './socket-path.ts';

export type MysqlServerOptions = Readonly<{
  /** The folder of the server. It is created with mode 0700 when it does not exist. */
  folder: string;
  /** True: commits are flushed before they are answered. False, for tests: nothing is synced. */
  durable: boolean;
  /** MYSQLD: exactly this program is used, and an unusable one is an error. */
  mysqld: string | undefined;
  /** PATH. */
  searchPath: string;
  /** A fetched MySQL is kept here, once for all projects of the user. */
  cacheFolder: string;
  /** Prints one line of progress. */
  print: (line: string) => void;
  /** An abort ends a start in progress and its child processes, but no running server. */
  signal?: AbortSignal;
}>;

export type MysqlServer = Readonly<{
  socketPath: string;
  /** The version that mysqld prints, such as `8.4.6` or `9.7.4-2`. */
  version: string;
  processId: number;
  /** Resolves when mysqld has ended for any reason and the folder is released. */
  exited: Promise<{ wasStopped: boolean }>;
  /** Sends SIGTERM, after 20 s SIGKILL, and releases the folder. Idempotent. */
  stop: () => Promise<void>;
}>;

/**
 * Starts a MySQL server on the data of a folder, which survives a kill -9 of mysqld and of this
 * process. Root has no password: the mode of the folder keeps other users from the socket.
 *
 * @returns the server, once it answers
 * @throws MysqlServerError when the folder is in use, or MySQL cannot be obtained or started; the
 *   abort reason after an abort. No child process is left in either case.
 */
export async function startMysqlServer(options: MysqlServerOptions): Promise<MysqlServer> {
  options.signal?.throwIfAborted();
  const folder = await prepareFolder(options.folder);
  const ownership = await claimOwnership(folder);
  const files = serverFiles(folder);
  const free = async () => {
    await removeSocketFolder(folder);
    await ownership.release();
  };
  try {
    await endLeftovers(files);
    const mysqld = await obtainMysqld(options);
    const socketPath = await prepareSocketPath(folder);
    const running = await startOn(mysqld, files, socketPath, options);
    const { processId } = running;
    return { socketPath, version: mysqld.versionText, processId, ...releaseOnExit(running, free) };
  } catch (error) {
    await free();
    throw error;
  }
}

/** Returns the real path, so that two paths of one folder have the same owner files. */
async function prepareFolder(path: string): Promise<string> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    await chmod(path, 0o700);
    return await realpath(path);
  } catch (error) {
    throw new MysqlServerError([
      `The folder ${path} for MySQL cannot be used (${errorCode(error)}).`,
      'It must belong to this user, on a disk that can be written. DATA_FOLDER names another.',
    ], error);
  }
}

/** Ends the mysqld of this folder that a killed owner has left, serving or initialising. */
async function endLeftovers(files: ServerFiles): Promise<void> {
  for (const folder of [files.data, files.dataPartial]) {
    for (const processId of await processesWithArguments(identifyingArguments(folder))) {
      if (await endProcess(processId)) continue;
      throw new MysqlServerError([
        `The mysqld of an earlier start uses ${folder} and cannot be ended.`,
        `End the process ${processId}, and start again.`,
      ]);
    }
  }
}

async function startOn(
  mysqld: Mysqld,
  files: ServerFiles,
  socketPath: string,
  { durable, signal, print }: MysqlServerOptions,
): Promise<MysqldProcess> {
  await prepareFiles(files);
  if (await needsInitialising(mysqld, files)) {
    print(`Creating an empty database in ${files.folder} (MySQL ${mysqld.versionText}).`);
    await initialise(mysqld, files, durable, signal);
  }
  print(`Starting MySQL ${mysqld.versionText}.`);
  const running = await startMysqld(mysqld, files, { socketPath, durable, signal });
  try {
    await recordVersion(mysqld, files);
  } catch (error) {
    await running.end();
    throw error;
  }
  return running;
}

/** Empties the folder for temporary files, and keeps the log of the previous start only. */
async function prepareFiles(files: ServerFiles): Promise<void> {
  await rm(files.temporary, { recursive: true, force: true });
  await mkdir(files.temporary, { mode: 0o700 });
  try {
    await rename(files.log, files.previousLog);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}

/** Releases the folder when mysqld ends, whether it was stopped or died. */
function releaseOnExit(running: MysqldProcess, free: () => Promise<void>) {
  let wasStopped = false;
  const exited = running.ended.then(async () => {
    await free();
    return { wasStopped };
  });
  const stop = async () => {
    if (!running.hasEnded()) wasStopped = true;
    await running.end();
    await exited;
  };
  return { exited, stop };
}

/** A server that is restarted when it dies. */
export type SupervisedServer = Readonly<{
  socketPath: string;
  /** Never resolves. Rejects when the server cannot be restarted, or dies too often. */
  failed: Promise<never>;
  stop: () => Promise<void>;
}>;

const DEATHS_MAX = 5;

const CRASH_LOOP = [
  'The development MySQL keeps ending by itself.',
  'The reason is in its log, mysqld.log in the data folder.',
];

/**
 * Starts a server, and restarts it on the same data and socket when it dies.
 *
 * @throws as startMysqlServer does
 */
export async function superviseMysqlServer(options: MysqlServerOptions): Promise<SupervisedServer> {
  const stopping = new AbortController();
  let current = startMysqlServer(options);
  const { socketPath } = await current;
  const crashes = new CrashLoop(DEATHS_MAX);

  const keep = async (): Promise<never> => {
    for (;;) {
      await (await current).exited;
      if (stopping.signal.aborted) return new Promise<never>(() => {});
      if (crashes.recordDeath()) throw new MysqlServerError(CRASH_LOOP);
      options.print('MySQL ended by itself; restarting it.');
      current = startMysqlServer({ ...options, signal: stopping.signal });
    }
  };

  const failed = keep();
  failed.catch(() => {});
  const stop = async (): Promise<void> => {
    stopping.abort();
    const server = await current.catch(() => null);
    await server?.stop();
  };
  return { socketPath, failed, stop };
}
