/**
 * The MySQL of the benchmark: a private server in a temporary folder, on a unix socket, durable,
 * with binary log, and with the server's own defaults for all else.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import { initialise, logLines } from '../tools/mysql/data-folder.ts';
import { identifyingArguments, serverFiles } from '../tools/mysql/mysqld.ts';
import type { ServerFiles } from '../tools/mysql/mysqld.ts';
import { MYSQLD_ENVIRONMENT } from '../tools/mysql/mysqld.ts';
import type { Mysqld } from '../tools/mysql/mysqld.ts';
import { obtainMysqld } from '../tools/mysql/fetch/obtain.ts';
import { endProcess } from '../tools/mysql/processes.ts';
import { readMysqlSettings } from '../tools/mysql/settings.ts';

/** A running server. */
export type BenchServer = Readonly<{
  socketPath: string;
  version: string;
  /** Of the mysqld that runs now. */
  processId: number;
  /** For files of the benchmark; removed with the server. */
  folder: string;
  /** Ends mysqld, as a crash does or in order, and leaves its data. */
  end: (signal: 'SIGKILL' | 'SIGTERM') => Promise<void>;
  /** Starts it again on the same data and socket. */
  start: () => Promise<void>;
  /** Ends mysqld and removes its folder. */
  stop: () => Promise<void>;
}>;

/** All services keep their pools open all the time; the default of 151 would refuse some. */
const MAX_CONNECTIONS = 500;

const READY_TIMEOUT_MS = 60_000;
const READY_POLL_MS = 50;

/**
 * Starts the server, with the mysqld that otpd itself would use.
 *
 * @throws when there is no mysqld, or it does not answer; nothing is left behind then
 */
export async function startServer(
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<BenchServer> {
  const mysqld = await obtainMysqld({ ...readMysqlSettings(process.env), print: say, signal });
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
      if (child.exitCode === null && child.signalCode === null) await endProcess(child.pid ?? 0);
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
  // A group of its own: Ctrl-C reaches the benchmark, which ends mysqld when it is done.
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
    if (child.pid !== undefined) await endProcess(child.pid);
    throw new Error(`mysqld does not answer:\n${lines.join('\n')}`, { cause: error });
  }
}

/** Durable as issue 3 asks; nothing else differs from the defaults but where things are. */
function durableArguments(mysqld: Mysqld, files: ServerFiles, socketPath: string): string[] {
  return [
    ...mysqld.leading,
    ...identifyingArguments(files.data),
    ...mysqld.layout,
    ...(userInfo().uid === 0 ? ['--user=root'] : []),
    `--log-error=${files.log}`,
    `--tmpdir=${files.temporary}`,
    `--pid-file=${files.processId}`,
    `--socket=${socketPath}`,
    // The packaged default names a folder that may not be there.
    '--secure-file-priv=NULL',
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
      const session = await mysql.createConnection({ socketPath, user: 'root' });
      await session.query('SELECT 1');
      await session.end();
      return;
    } catch (error) {
      if (deadline.aborted || child.exitCode !== null) throw error;
    }
    await delay(READY_POLL_MS);
  }
}
