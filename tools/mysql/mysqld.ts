/**
 * A mysqld program, its version and its options. Every MySQL from 8.0.19 to 9.x knows the options;
 * those that a build may lack have the prefix `--loose-`, which turns the error into a warning.
 */
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { checkVersion } from '../../src/db/checks/mysql-version.ts';
import type { MysqlVersion } from '../../src/db/checks/mysql-version.ts';
import { runCommand } from './command.ts';
import { errorCode } from './error.ts';

/** Tests open many pools at the same time, and an idle connection costs little. */
const MAX_CONNECTIONS = 300;

/** 128 MB, the default of MySQL: the data of a development server fits. */
const BUFFER_POOL_BYTES = 134_217_728;

/** The files and folders of one server, all inside its folder. */
export type ServerFiles = Readonly<{
  folder: string;
  data: string;
  /** Data that is being initialised. It is never served. */
  dataPartial: string;
  log: string;
  previousLog: string;
  temporary: string;
  processId: string;
  /** Contains the version that last wrote the data. */
  version: string;
}>;

/** @param folder the folder of the server, as a real path */
export function serverFiles(folder: string): ServerFiles {
  return Object.freeze({
    folder,
    data: join(folder, 'data'),
    dataPartial: join(folder, 'data.partial'),
    log: join(folder, 'mysqld.log'),
    previousLog: join(folder, 'mysqld.log.1'),
    temporary: join(folder, 'tmp'),
    processId: join(folder, 'mysqld.pid'),
    version: join(folder, 'mysql-version'),
  });
}

/** The arguments that create a data folder whose root account has no password. */
export function initialiseArguments(
  mysqld: Mysqld,
  files: ServerFiles,
  durable: boolean,
): string[] {
  return [
    ...folderArguments(mysqld, files, files.dataPartial),
    ...PRIVATE,
    '--initialize-insecure',
    // Incomplete data is thrown away, so a crash during the initialisation loses nothing.
    ...FAST,
    ...(durable ? [] : UNSYNCED),
  ];
}

/** The arguments that serve the data: one unix socket, no network, no binary log. */
export function serveArguments(
  mysqld: Mysqld,
  files: ServerFiles,
  socketPath: string,
  durable: boolean,
): string[] {
  return [
    ...locatedArguments(mysqld, files, socketPath),
    ...PRIVATE,
    '--skip-networking',
    '--loose-mysqlx=OFF',
    '--local-infile=OFF',
    '--event-scheduler=OFF',
    `--max-connections=${MAX_CONNECTIONS}`,
    `--innodb-buffer-pool-size=${BUFFER_POOL_BYTES}`,
    ...(durable ? DURABLE : [...FAST, ...UNSYNCED]),
  ];
}

/** The arguments that identify the server of a data folder among all processes. */
export function identifyingArguments(dataFolder: string): string[] {
  return ['--no-defaults', `--datadir=${dataFolder}`];
}

/** Flushes each commit to the disk before answering (MySQL manual, "InnoDB Startup Options"). */
const DURABLE = ['--innodb-flush-log-at-trx-commit=1', '--innodb-doublewrite=ON'];

const FAST = ['--innodb-flush-log-at-trx-commit=0', '--innodb-doublewrite=OFF'];

/** For throwaway data only: a crash of the machine may lose everything. */
const UNSYNCED = ['--innodb-flush-method=nosync', '--innodb-use-native-aio=OFF'];

/** What a private server does without. */
const PRIVATE = [
  '--skip-log-bin',
  '--performance-schema=OFF',
  // A unix socket needs no TLS, and generating keys would take half a second.
  '--loose-auto-generate-certs=OFF',
  '--loose-caching-sha2-password-auto-generate-rsa-keys=OFF',
  '--loose-sha256-password-auto-generate-rsa-keys=OFF',
];

/** What every mysqld that serves a data folder is given; everything else is MySQL's default. */
export function locatedArguments(
  mysqld: Mysqld,
  files: ServerFiles,
  socketPath: string,
): string[] {
  return [
    ...folderArguments(mysqld, files, files.data),
    `--socket=${socketPath}`,
    `--pid-file=${files.processId}`,
  ];
}

function folderArguments(mysqld: Mysqld, files: ServerFiles, dataFolder: string): string[] {
  return [
    ...mysqld.leading,
    ...identifyingArguments(dataFolder),
    ...mysqld.layout,
    // As root, mysqld starts only with an explicit user. The folder has mode 0700 in any case.
    ...(userInfo().uid === 0 ? ['--user=root'] : []),
    `--log-error=${files.log}`,
    `--tmpdir=${files.temporary}`,
    // The default of a package names a folder that may not exist.
    '--secure-file-priv=NULL',
  ];
}

/** Reading the program from a cold disk may take a few seconds. */
const VERSION_TIMEOUT_MS = 20_000;

/** How to start a mysqld. */
export type MysqldLaunch = Readonly<{
  program: string;
  /** Arguments that precede those of mysqld: its path, when the program is a dynamic loader. */
  leading: readonly string[];
  /** Options that locate the files of the installation. */
  layout: readonly string[];
}>;

/** A mysqld of a supported version. */
export type Mysqld = MysqldLaunch & Readonly<{ versionText: string; version: MysqlVersion }>;

/** `reason` continues a sentence whose subject is the program. */
type Examined =
  | Readonly<{ usable: true; mysqld: Mysqld }>
  | Readonly<{ usable: false; reason: string }>;

/** The whole environment of mysqld. Nothing is inherited, and no file is readable by others. */
export const MYSQLD_ENVIRONMENT: Readonly<Record<string, string>> = Object.freeze({
  PATH: '/usr/bin:/bin',
  LC_ALL: 'C',
  // The modes of the files that mysqld creates (MySQL manual, "Environment Variables").
  UMASK: '0600',
  UMASK_DIR: '0700',
});

/** Runs `mysqld --version` and judges the version. */
export async function examineMysqld(launch: MysqldLaunch, signal?: AbortSignal): Promise<Examined> {
  const parameters = [...launch.leading, '--no-defaults', '--version'];
  try {
    const end = await runCommand(launch.program, parameters, {
      timeoutMs: VERSION_TIMEOUT_MS,
      signal,
      environment: MYSQLD_ENVIRONMENT,
    });
    if (end.timedOut) return { usable: false, reason: 'did not print its version in time' };
    const verdict = checkVersion(end.output);
    if (!verdict.usable) return verdict;
    const { text: versionText, version } = verdict;
    return { usable: true, mysqld: { ...launch, versionText, version } };
  } catch (error) {
    const code = errorCode(error);
    if (signal?.aborted || code === undefined) throw error;
    return { usable: false, reason: `cannot be run (${code})` };
  }
}
