/**
 * The options mysqld is started with. All are known to every MySQL from 8.0.19 to 9.x; those
 * that a build may lack have the prefix `--loose-`, which turns an error into a warning.
 */
import { userInfo } from 'node:os';
import { join } from 'node:path';
import type { Mysqld } from './mysqld-program.ts';

/** Tests open many pools at once; an idle connection costs little. */
const MAX_CONNECTIONS = 300;

/** Modest: the whole data of a private server fits, and the machine has other work. */
const BUFFER_POOL_BYTES = 134_217_728;

/** Every file and folder of one private server, all inside its folder. */
export type ServerFiles = Readonly<{
  folder: string;
  data: string;
  /** Data that is being initialised; never trusted. */
  dataPartial: string;
  log: string;
  previousLog: string;
  temporary: string;
  processId: string;
  /** The version that last wrote the data. */
  version: string;
}>;

/**
 * The paths of one private server.
 *
 * @param folder the server's folder, as a real path
 */
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

/** The arguments that create a data folder with a root account that has no password. */
export function initialiseArguments(
  mysqld: Mysqld,
  files: ServerFiles,
  durable: boolean,
): string[] {
  return [
    ...commonArguments(mysqld, files, files.dataPartial),
    '--initialize-insecure',
    // Half-made data is thrown away, so nothing needs to survive a crash before the end.
    ...FAST,
    ...(durable ? [] : UNSYNCED),
  ];
}

/** The arguments that serve: one unix socket, no network, no log of changes. */
export function serveArguments(
  mysqld: Mysqld,
  files: ServerFiles,
  socketPath: string,
  durable: boolean,
): string[] {
  return [
    ...commonArguments(mysqld, files, files.data),
    `--socket=${socketPath}`,
    `--pid-file=${files.processId}`,
    '--skip-networking',
    '--loose-mysqlx=OFF',
    '--local-infile=OFF',
    '--event-scheduler=OFF',
    `--max-connections=${MAX_CONNECTIONS}`,
    `--innodb-buffer-pool-size=${BUFFER_POOL_BYTES}`,
    ...(durable ? DURABLE : [...FAST, ...UNSYNCED]),
  ];
}

/** How a server of this data folder is known among all processes. */
export function identifyingArguments(dataFolder: string): string[] {
  return ['--no-defaults', `--datadir=${dataFolder}`];
}

/** A commit is on the disk before it is answered (manual, "InnoDB Startup Options"). */
const DURABLE = ['--innodb-flush-log-at-trx-commit=1', '--innodb-doublewrite=ON'];

const FAST = ['--innodb-flush-log-at-trx-commit=0', '--innodb-doublewrite=OFF'];

/** For throwaway data only: a crash of the machine may lose all of it. */
const UNSYNCED = ['--innodb-flush-method=nosync', '--innodb-use-native-aio=OFF'];

function commonArguments(mysqld: Mysqld, files: ServerFiles, dataFolder: string): string[] {
  return [
    ...mysqld.leading,
    ...identifyingArguments(dataFolder),
    ...mysqld.layout,
    // mysqld refuses to run as root unless told to; its folder is closed to others either way.
    ...(userInfo().uid === 0 ? ['--user=root'] : []),
    `--log-error=${files.log}`,
    `--tmpdir=${files.temporary}`,
    '--secure-file-priv=NULL',
    '--skip-log-bin',
    '--performance-schema=OFF',
    // A socket is as good as TLS, so no keys are made: that would cost half a second.
    '--loose-auto-generate-certs=OFF',
    '--loose-caching-sha2-password-auto-generate-rsa-keys=OFF',
    '--loose-sha256-password-auto-generate-rsa-keys=OFF',
  ];
}
