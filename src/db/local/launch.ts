/**
 * The private MySQL server: gets a mysqld, makes its data folder once, starts it on a socket of
 * its own, and ends it. This is the one entry; the other files of the folder are its parts.
 */
import { chmod, mkdir, realpath, rename, rm } from 'node:fs/promises';
import { initialise, needsInitialising, recordVersion } from './data-folder.ts';
import { errorCode, LocalServerError } from './local-server-error.ts';
import { identifyingArguments, serverFiles } from './mysqld-arguments.ts';
import type { ServerFiles } from './mysqld-arguments.ts';
import { startMysqld } from './mysqld-process.ts';
import type { MysqldProcess } from './mysqld-process.ts';
import type { Mysqld } from './mysqld-program.ts';
import { obtainMysqld } from './obtain-mysqld.ts';
import { claimOwnership } from './owner.ts';
import { endProcess, processesWithArguments } from './running-process.ts';
import { prepareSocketPath, removeSocketFolder } from './socket-path.ts';

export type LocalServerOptions = Readonly<{
  /** The folder of the server; made with mode 0700 when absent. */
  folder: string;
  /** True: a commit is on the disk before it is answered. False, for tests: nothing is synced. */
  durable: boolean;
  /** MYSQLD: exactly this program; an error when it is unusable. */
  mysqld: string | undefined;
  /** PATH. */
  searchPath: string;
  /** Where a copy of MySQL of our own is kept, for all projects of the user. */
  cacheFolder: string;
  /** Progress for a person, one line a call. */
  say: (line: string) => void;
  /** Ends the work and every child process until the server runs; has no effect after. */
  signal?: AbortSignal;
}>;

export type LocalServer = Readonly<{
  socketPath: string;
  /** The version as mysqld tells it, such as `8.4.6` or `9.7.4-2`. */
  version: string;
  processId: number;
  /** Resolves when mysqld ended, however, and the folder is free again. */
  exited: Promise<{ wasStopped: boolean }>;
  /** SIGTERM, at most 20 s, then SIGKILL; frees the folder. Calling it again is harmless. */
  stop: () => Promise<void>;
}>;

/**
 * Starts a private MySQL server. What was stored in the folder before is still there, also after
 * otpd or mysqld was killed. Nobody but this user can reach it: root has no password.
 *
 * @returns the server once it answers
 * @throws LocalServerError when the folder has an owner, or MySQL cannot be had or started; the
 *   abort reason when the signal was aborted. No process of ours is left in either case.
 */
export async function startLocalServer(options: LocalServerOptions): Promise<LocalServer> {
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
    return { socketPath, version: mysqld.versionText, processId, ...handOver(running, free) };
  } catch (error) {
    await free();
    throw error;
  }
}

/** The folder, closed to others, by its real path: one folder has one name for its owners. */
async function prepareFolder(path: string): Promise<string> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    await chmod(path, 0o700);
    return await realpath(path);
  } catch (error) {
    throw new LocalServerError([
      `The folder ${path} for the private MySQL cannot be used (${errorCode(error)}).`,
      'It must be a folder of this user, on a disk that can be written.',
    ], error);
  }
}

/** What an owner that was killed left running: a mysqld of this folder, serving or initialising. */
async function endLeftovers(files: ServerFiles): Promise<void> {
  for (const folder of [files.data, files.dataPartial]) {
    for (const processId of await processesWithArguments(identifyingArguments(folder))) {
      if (await endProcess(processId)) continue;
      throw new LocalServerError([
        `A mysqld of an earlier start still uses ${folder} and cannot be ended.`,
        `End the process ${processId}, then start again.`,
      ]);
    }
  }
}

async function startOn(
  mysqld: Mysqld,
  files: ServerFiles,
  socketPath: string,
  { durable, signal, say }: LocalServerOptions,
): Promise<MysqldProcess> {
  await prepareFiles(files);
  if (await needsInitialising(mysqld, files)) {
    say(`Creating an empty database in ${files.folder} (MySQL ${mysqld.versionText}).`);
    await initialise(mysqld, files, durable, signal);
  }
  say(`Starting MySQL ${mysqld.versionText}.`);
  const running = await startMysqld(mysqld, files, { socketPath, durable, signal });
  try {
    await recordVersion(mysqld, files);
  } catch (error) {
    await running.end();
    throw error;
  }
  return running;
}

/** A log and a folder for temporary files for this start; the log before it is kept once. */
async function prepareFiles(files: ServerFiles): Promise<void> {
  await rm(files.temporary, { recursive: true, force: true });
  await mkdir(files.temporary, { mode: 0o700 });
  try {
    await rename(files.log, files.previousLog);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}

/** Ownership ends with mysqld, whether it was stopped or died. */
function handOver(running: MysqldProcess, free: () => Promise<void>) {
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
