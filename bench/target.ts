/** The services that are measured: each is a process of its own with a database of its own. */
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import mysql from 'mysql2/promise';
import { freePort } from '../test/harness/free-port.ts';
import { endChild, ROOT } from './build.ts';

/**
 * The services by name. `base` is otpd of the commit given by --against; `group` and `before` are
 * otpd on a group of three, the latter with DB_CONSISTENCY=before.
 */
export type TargetName =
  'floor' | 'otpd' | 'base' | 'group' | 'before' | 'bare' | 'textbook' | 'parts';

const OTPD: readonly TargetName[] = ['otpd', 'base', 'group', 'before'];

/** A running service. */
export type Target = Readonly<{
  name: TargetName;
  port: number;
  processId: number;
  databaseName: string;
  /** Starts a second process of an otpd on the same database and passes on what it prints. */
  startTwin: (onPrint: (text: string) => void) => Promise<Target>;
  /** Stops the process; an otpd sends its remaining messages first. */
  stop: () => Promise<void>;
}>;

/** How a service is started. */
export type TargetOptions = Readonly<{
  socketPath: string;
  databaseName: string;
  /** Pool size of a baseline; otpd has its own default. */
  poolSize: number;
  /** Where `base` is compiled; null when nothing is compared. */
  baseFolder: string | null;
  /** Receives standard error. */
  logFile: string;
  /** More variables of an otpd. */
  environment?: Readonly<Record<string, string>>;
  /** Arguments of node, such as --cpu-prof. */
  nodeArguments?: readonly string[];
  /** Receives what an otpd prints, messages included; by default they go to /dev/null. */
  onPrint?: (text: string) => void;
}>;

type Launch = Readonly<{
  name: TargetName;
  folder: string;
  environment: NodeJS.ProcessEnv;
  options: TargetOptions;
}>;

const READY_TIMEOUT_MS = 20_000;
const READY_POLL_MS = 20;

/**
 * Creates the database of a service, migrates it, starts the service and waits until it listens.
 *
 * @throws when the service exits or does not listen within 20 s
 */
export async function startTarget(name: TargetName, options: TargetOptions): Promise<Target> {
  const folder = name === 'base' ? options.baseFolder ?? ROOT : ROOT;
  const environment = { ...process.env, ...environmentFor(name, options) };
  await createDatabase(options);
  if (isOtpd(name)) {
    await promisify(execFile)(process.execPath, ['dist/main.js', 'migrate'], {
      cwd: folder, env: { ...environment, PORT: '0' }, timeout: READY_TIMEOUT_MS,
    });
  }
  return launch({ name, folder, environment, options });
}

async function launch(order: Launch): Promise<Target> {
  const { name, folder, environment, options } = order;
  const port = await freePort();
  const log = openSync(options.logFile, 'a', 0o600);
  const program = isOtpd(name) ? ['dist/main.js', 'serve'] : [`bench/dist/targets/${name}.js`];
  const child = spawn(process.execPath, [...options.nodeArguments ?? [], ...program], {
    cwd: folder,
    env: { ...environment, PORT: String(port) },
    stdio: ['ignore', options.onPrint === undefined ? 'ignore' : 'pipe', log],
  });
  closeSync(log);
  child.stdout?.setEncoding('utf8').on('data', (text: string) => options.onPrint?.(text));
  try {
    await untilListening(child, port, options.logFile);
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
  return {
    name, port, processId: child.pid ?? 0, databaseName: options.databaseName,
    startTwin: (onPrint) => launch({
      ...order, options: { ...options, nodeArguments: [], onPrint },
    }),
    stop: () => endChild(child),
  };
}

function isOtpd(name: TargetName): boolean {
  return OTPD.includes(name);
}

async function createDatabase({ socketPath, databaseName }: TargetOptions): Promise<void> {
  const connection = await mysql.createConnection({ socketPath, user: 'root' });
  await connection.query(`CREATE DATABASE IF NOT EXISTS \`${databaseName}\``);
  await connection.end();
}

/** Empty variables take precedence over those of a .env file. */
function environmentFor(
  name: TargetName,
  { socketPath, databaseName, poolSize, environment = {} }: TargetOptions,
): Record<string, string> {
  const database = { DB_HOST: '', DB_SOCKET: socketPath, DB_USER: 'root', DB_NAME: databaseName };
  if (!isOtpd(name)) return { ...database, DB_CONNECTIONS: String(poolSize) };
  return {
    ...database,
    DB_PASSWORD: '',
    DB_TLS_CA: '',
    HOST: '127.0.0.1',
    OTP_SECRETS: `bench:${randomBytes(32).toString('base64')}`,
    TRUSTED_PROXIES: '127.0.0.0/8',
    POLICY_FILE: '',
    ...environment,
  };
}

async function untilListening(child: ChildProcess, port: number, logFile: string): Promise<void> {
  const deadline = AbortSignal.timeout(READY_TIMEOUT_MS);
  while (!(await accepts(port))) {
    if (child.exitCode !== null) {
      throw new Error(`a service exited with ${child.exitCode}; see ${logFile}`);
    }
    if (deadline.aborted) throw new Error(`a service does not listen; see ${logFile}`);
    await delay(READY_POLL_MS);
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
