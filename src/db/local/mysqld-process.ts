/** Starts mysqld on its data, waits until it answers, and ends it. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import mysql from 'mysql2';
import { confinementHint, logLines } from './data-folder.ts';
import { errorCode, LocalServerError } from './local-server-error.ts';
import { serveArguments } from './mysqld-arguments.ts';
import type { ServerFiles } from './mysqld-arguments.ts';
import { MYSQLD_ENVIRONMENT } from './mysqld-program.ts';
import type { Mysqld } from './mysqld-program.ts';
import { endProcess } from './running-process.ts';

/** Half a second is usual; reading the log of changes again after a crash may take long. */
const READY_TIMEOUT_MS = 60_000;
const READY_POLL_MS = 20;

/** One try over a socket takes milliseconds; a later try may meet a server that is ready. */
const TRY_TIMEOUT_MS = 1_000;

/** Connection errors that mean "not yet": no socket, nobody listening, not ready to serve. */
const NOT_YET: ReadonlySet<string> = new Set([
  'ENOENT',
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'PROTOCOL_CONNECTION_LOST',
  'ER_SERVER_SHUTDOWN',
  'ER_CON_COUNT_ERROR',
]);

/** A mysqld that answers. */
export type MysqldProcess = Readonly<{
  processId: number;
  hasEnded: () => boolean;
  /** Resolves when it ended, by whatever cause. */
  ended: Promise<void>;
  /** SIGTERM, a bounded wait, SIGKILL. */
  end: () => Promise<void>;
}>;

/** How it is to run. `socketPath` has at most 100 bytes. */
type Running = Readonly<{
  socketPath: string;
  durable: boolean;
  signal: AbortSignal | undefined;
}>;

/**
 * Starts mysqld and waits until a connection through its socket works.
 *
 * @throws LocalServerError with the end of its log when it ends or does not answer in 60 s, or
 *   the abort reason; mysqld is gone in each case
 */
export async function startMysqld(
  mysqld: Mysqld,
  files: ServerFiles,
  { socketPath, durable, signal }: Running,
): Promise<MysqldProcess> {
  signal?.throwIfAborted();
  const parameters = serveArguments(mysqld, files, socketPath, durable);
  const child = spawnMysqld(mysqld, parameters, files);
  const server = await superviseMysqld(child, mysqld);
  try {
    if (await untilReady(server, socketPath, signal)) return server;
    throw await startFailed(mysqld, files);
  } catch (error) {
    await server.end();
    throw error;
  }
}

/** A group of its own: a terminal's Ctrl-C reaches otpd, which ends mysqld when it is done. */
function spawnMysqld(
  mysqld: Mysqld,
  parameters: readonly string[],
  files: ServerFiles,
): ChildProcess {
  const log = openSync(files.log, 'a', 0o600);
  try {
    return spawn(mysqld.program, parameters, {
      cwd: files.folder,
      detached: true,
      env: { ...MYSQLD_ENVIRONMENT },
      stdio: ['ignore', log, log],
    });
  } finally {
    // Synchronously: the events of the child come with the next turn and must not be missed.
    closeSync(log);
  }
}

async function superviseMysqld(child: ChildProcess, mysqld: Mysqld): Promise<MysqldProcess> {
  const processId = await new Promise<number>((resolve, reject) => {
    child.once('error', (cause) => {
      reject(new LocalServerError([`${mysqld.program} cannot be started.`], cause));
    });
    child.once('spawn', () => resolve(child.pid ?? 0));
  });
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    if (hasEnded()) resolve();
  });
  const end = async () => {
    if (hasEnded()) return;
    await endProcess(processId);
    await ended;
  };
  return { processId, hasEnded, ended, end };
}

/** True when it answers; false when it ended, or is silent for too long. */
async function untilReady(
  server: MysqldProcess,
  socketPath: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const deadline = AbortSignal.timeout(READY_TIMEOUT_MS);
  while (!server.hasEnded() && !deadline.aborted) {
    signal?.throwIfAborted();
    if (await answers(socketPath)) return !server.hasEnded();
    await delay(READY_POLL_MS);
  }
  return false;
}

/** One try, never longer than its bound: a server that is starting may accept and stay silent. */
async function answers(socketPath: string): Promise<boolean> {
  const connection = mysql.createConnection({ socketPath, user: 'root' });
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<boolean>((resolve, reject) => {
      timer = setTimeout(() => resolve(false), TRY_TIMEOUT_MS);
      // The driver emits what no statement waits for; unheard, it would end the process.
      connection.on('error', reject);
      connection.query('SELECT 1', (error) => (error ? reject(error) : resolve(true)));
    });
  } catch (error) {
    const code = errorCode(error) ?? '';
    if (NOT_YET.has(code)) return false;
    throw notLetIn(code, error);
  } finally {
    clearTimeout(timer);
    connection.destroy();
  }
}

function notLetIn(code: string, cause: unknown): LocalServerError {
  return new LocalServerError([
    `The private MySQL runs, but does not let otpd in (${code}).`,
    'otpd connects as root without a password, which only this user can do.',
    'If a password was set for root, remove it again.',
  ], cause);
}

async function startFailed(mysqld: Mysqld, files: ServerFiles): Promise<LocalServerError> {
  return new LocalServerError([
    `MySQL ${mysqld.versionText} (${mysqld.program}) did not start on ${files.data}.`,
    'The end of its log:',
    ...(await logLines(files, '')),
    ...confinementHint(mysqld),
    `The whole log is ${files.log}. If the data is of a newer MySQL, use that one (MYSQLD);`,
    `if the disk is full, make room; if the data is not needed, remove ${files.folder}.`,
  ]);
}
