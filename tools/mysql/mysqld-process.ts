/** A mysqld process: its start, the wait until it answers, and its end. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import mysql from 'mysql2';
import { confinementHint, logLines } from './data-folder.ts';
import { MysqlServerError, errorCode } from './error.ts';
import { MYSQLD_ENVIRONMENT, serveArguments } from './mysqld.ts';
import type { Mysqld, ServerFiles } from './mysqld.ts';
import { endProcess } from './processes.ts';

/** A start usually takes half a second; crash recovery may take much longer. */
const READY_TIMEOUT_MS = 60_000;
const READY_POLL_MS = 20;

/** A connection takes milliseconds; a server that stays silent for longer is tried again. */
const TRY_TIMEOUT_MS = 1_000;

/** Connection errors of a server that is still starting. */
const STARTING_ERRORS: ReadonlySet<string> = new Set([
  'ENOENT',
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'PROTOCOL_CONNECTION_LOST',
  'ER_SERVER_SHUTDOWN',
  'ER_CON_COUNT_ERROR',
]);

/** A mysqld process that answers. */
export type MysqldProcess = Readonly<{
  processId: number;
  hasEnded: () => boolean;
  /** Resolves when the process has ended, for any reason. */
  ended: Promise<void>;
  /** Sends SIGTERM, waits with a bound, then sends SIGKILL. */
  end: () => Promise<void>;
}>;

type StartOptions = Readonly<{
  socketPath: string;
  durable: boolean;
  signal: AbortSignal | undefined;
}>;

/**
 * Starts mysqld and waits until it accepts a connection through its socket.
 *
 * @throws MysqlServerError with the end of the log when mysqld ends or does not answer in 60 s, or
 *   the abort reason; mysqld has ended in either case
 */
export async function startMysqld(
  mysqld: Mysqld,
  files: ServerFiles,
  { socketPath, durable, signal }: StartOptions,
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

/** A process group of its own keeps Ctrl-C away from mysqld, which ends after otpd. */
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
    // Closing is synchronous, because events of the child could be missed during an await.
    closeSync(log);
  }
}

async function superviseMysqld(child: ChildProcess, mysqld: Mysqld): Promise<MysqldProcess> {
  const processId = await new Promise<number>((resolve, reject) => {
    child.once('error', (cause) => {
      reject(new MysqlServerError([`${mysqld.program} cannot be started.`], cause));
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

/** True when mysqld answers; false when it has ended, or stays silent for 60 s. */
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

/** Tries to connect once. A starting server may accept a connection and stay silent. */
async function answers(socketPath: string): Promise<boolean> {
  const connection = mysql.createConnection({ socketPath, user: 'root' });
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<boolean>((resolve, reject) => {
      timer = setTimeout(() => resolve(false), TRY_TIMEOUT_MS);
      // Without a listener, an error that no statement waits for would end this process.
      connection.on('error', reject);
      connection.query('SELECT 1', (error) => (error ? reject(error) : resolve(true)));
    });
  } catch (error) {
    const code = errorCode(error) ?? '';
    if (STARTING_ERRORS.has(code)) return false;
    throw accessDenied(code, error);
  } finally {
    clearTimeout(timer);
    connection.destroy();
  }
}

function accessDenied(code: string, cause: unknown): MysqlServerError {
  return new MysqlServerError([
    `The development MySQL refuses the connection of root (${code}).`,
    'Its root account must have no password; only this user can reach the socket.',
    'If a password was set for root, remove it.',
  ], cause);
}

async function startFailed(mysqld: Mysqld, files: ServerFiles): Promise<MysqlServerError> {
  return new MysqlServerError([
    `MySQL ${mysqld.versionText} (${mysqld.program}) did not start on ${files.data}.`,
    'The end of its log:',
    ...(await logLines(files, '')),
    ...confinementHint(mysqld),
    `The whole log is ${files.log}.`,
    'If a newer MySQL wrote the data, set MYSQLD to it. If the disk is full, free some space.',
    `If the data is not needed, remove ${files.folder}.`,
  ]);
}
