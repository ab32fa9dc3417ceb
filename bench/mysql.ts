/**
 * The MySQL of the benchmark: in a temporary folder, on a unix socket, durable, with binary log,
 * and with MySQL's defaults for everything else.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import { initialise, logLines } from '../tools/mysql/data-folder.ts';
import { obtainMysqld } from '../tools/mysql/fetch/obtain.ts';
import { locatedArguments, MYSQLD_ENVIRONMENT, serverFiles } from '../tools/mysql/mysqld.ts';
import type { Mysqld, ServerFiles } from '../tools/mysql/mysqld.ts';
import { readMysqlSettings } from '../tools/mysql/settings.ts';
import { endChild } from './build.ts';

/** A running server. */
export type BenchServer = Readonly<{
  socketPath: string;
  version: string;
  /** Changes when mysqld is started again. */
  processId: number;
  /** Holds data and files of the benchmark; removed by `stop`. */
  folder: string;
  /** Ends mysqld by a signal and keeps its data. */
  end: (signal: 'SIGKILL' | 'SIGTERM') => Promise<void>;
  /** Starts mysqld on the same data and socket. */
  start: () => Promise<void>;
  /** Stops mysqld and removes its folder. */
  stop: () => Promise<void>;
}>;

/** Every service keeps its pool open; together they exceed the default of 151. */
const MAX_CONNECTIONS = 500;

const READY_TIMEOUT_MS = 60_000;
const READY_POLL_MS = 50;

/**
 * Starts MySQL with the mysqld of the development MySQL.
 *
 * @throws when there is no mysqld or it does not start; the folder is removed then
 */
export async function startServer(
  print: (line: string) => void,
  signal: AbortSignal,
): Promise<BenchServer> {
  const mysqld = await obtainMysqld({ ...readMysqlSettings(process.env), print, signal });
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'otpd-bench-')));
  try {
    const files = serverFiles(folder);
    await mkdir(files.temporary, { mode: 0o700 });
    await initialise(mysqld, files, false, signal);
    return await serve(mysqld, files, signal);
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

async function serve(
  mysqld: Mysqld,
  files: ServerFiles,
  signal: AbortSignal,
): Promise<BenchServer> {
  const socketPath = join(files.folder, 'mysqld.sock');
  const launch = () => startMysqld(mysqld, files, socketPath, signal);
  let child = await launch();
  const { folder } = files;
  return {
    socketPath, folder, version: mysqld.versionText,
    get processId() { return child.pid ?? 0; },
    end: async (how) => {
      const exited = once(child, 'exit');
      child.kill(how);
      await exited;
    },
    start: async () => { child = await launch(); },
    stop: async () => {
      await endChild(child);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function startMysqld(
  mysqld: Mysqld,
  files: ServerFiles,
  socketPath: string,
  signal: AbortSignal,
): Promise<ChildProcess> {
  const log = openSync(files.log, 'a', 0o600);
  // In a process group of its own, so that Ctrl-C only reaches the benchmark, which stops mysqld.
  const child = spawn(mysqld.program, durableArguments(mysqld, files, socketPath), {
    detached: true, env: { ...MYSQLD_ENVIRONMENT }, stdio: ['ignore', log, log],
  });
  closeSync(log);
  child.once('error', () => {});
  try {
    await untilReady(child, socketPath, signal);
    return child;
  } catch (error) {
    const lines = await logLines(files, '');
    if (child.pid !== undefined) await endChild(child);
    throw new Error(`mysqld does not start:\n${lines.join('\n')}`, { cause: error });
  }
}

/** Durability and paths; everything else is MySQL's default. */
function durableArguments(mysqld: Mysqld, files: ServerFiles, socketPath: string): string[] {
  return [
    ...locatedArguments(mysqld, files, socketPath),
    '--skip-networking',
    `--max-connections=${MAX_CONNECTIONS}`,
    '--loose-mysqlx=OFF',
    '--server-id=1',
    '--log-bin=binlog',
    '--sync-binlog=1',
    '--innodb-flush-log-at-trx-commit=1',
  ];
}

async function untilReady(
  child: ChildProcess,
  socketPath: string,
  signal: AbortSignal,
): Promise<void> {
  const deadline = AbortSignal.timeout(READY_TIMEOUT_MS);
  for (;;) {
    signal.throwIfAborted();
    try {
      const connection = await mysql.createConnection({ socketPath, user: 'root' });
      await connection.query('SELECT 1');
      await connection.end();
      return;
    } catch (error) {
      if (deadline.aborted || child.exitCode !== null) throw error;
    }
    await delay(READY_POLL_MS);
  }
}
