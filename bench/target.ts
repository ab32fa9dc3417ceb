/** The services that are measured, each a process of its own with a database of its own. */
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { DatabaseSettings } from '../src/db/connection.ts';
import { endProcess } from '../tools/mysql/processes.ts';
import { createDatabase } from '../src/db/migrate.ts';
import { freePort } from '../test/harness/free-port.ts';

/** The services by name. */
export const TARGETS = ['floor', 'otpd', 'before', 'bare', 'textbook', 'parts'] as const;
export type TargetName = (typeof TARGETS)[number];

/** A running service. */
export type Target = Readonly<{
  name: TargetName;
  port: number;
  processId: number;
  settings: DatabaseSettings;
  /** OTP_SECRETS of an otpd; '' of a baseline. */
  secrets: string;
  stop: () => Promise<void>;
}>;

/** How to start one. */
export type TargetOptions = Readonly<{
  socketPath: string;
  databaseName: string;
  /** Connections of a baseline's pool; otpd has its own default. */
  poolSize: number;
  /** POLICY_FILE of an otpd; '' for none. */
  policyFile: string;
  /** Where `before` was built; null: it is not measured. */
  beforeFolder: string | null;
  /** Other variables of an otpd. */
  environment: Readonly<Record<string, string>>;
  /** Where its standard error goes. */
  logFile: string;
  /** Told what an otpd prints, its messages among it; without, they go to /dev/null. */
  onPrint?: (text: string) => void;
}>;

const READY_TIMEOUT_MS = 20_000;
const READY_POLL_MS = 20;

/** More than the time in which a service answers what is under way. */
const STOP_TIMEOUT_MS = 15_000;

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/**
 * Creates the database of a service, starts it with plain node and waits until it listens.
 *
 * @throws when it ends or says nothing in time
 */
export async function startTarget(name: TargetName, options: TargetOptions): Promise<Target> {
  const settings = settingsOf(options);
  const secrets = isOtpd(name) ? `bench:${randomBytes(32).toString('base64')}` : '';
  await createDatabase(settings);
  const folder = name === 'before' ? options.beforeFolder ?? '' : ROOT;
  const variables = { ...process.env, ...environmentOf(name, options, secrets) };
  if (isOtpd(name)) await run(folder, { ...variables, PORT: '0' }, 'dist/main.js', 'migrate');
  const port = await freePort();
  const log = openSync(options.logFile, 'a', 0o600);
  const child = spawn(process.execPath, programOf(name), {
    cwd: folder,
    env: { ...variables, PORT: String(port) },
    // otpd prints its messages: the work of a channel is not measured.
    stdio: ['ignore', options.onPrint === undefined ? 'ignore' : 'pipe', log],
  });
  closeSync(log);
  child.stdout?.setEncoding('utf8').on('data', (text: string) => options.onPrint?.(text));
  try {
    await untilListening(child, port);
    const processId = child.pid ?? 0;
    const stop = async (): Promise<void> => void (await endProcess(processId, STOP_TIMEOUT_MS));
    return { name, port, processId, settings, secrets, stop };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
}

function settingsOf({ socketPath, databaseName }: TargetOptions): DatabaseSettings {
  return {
    socketPath, host: null, port: 0, user: 'root', password: '', database: databaseName,
    tlsCaFile: null,
  };
}

function isOtpd(name: TargetName): boolean {
  return name === 'otpd' || name === 'before';
}

function programOf(name: TargetName): string[] {
  return isOtpd(name) ? ['dist/main.js', 'serve'] : [`bench/dist/targets/${name}.js`];
}

/** Each version brings its database to its own schema. */
async function run(cwd: string, env: NodeJS.ProcessEnv, ...command: string[]): Promise<void> {
  await promisify(execFile)(process.execPath, command, { cwd, env, timeout: READY_TIMEOUT_MS });
}

/** Empty variables hide those of a .env file. */
function environmentOf(
  name: TargetName,
  { socketPath, databaseName, poolSize, policyFile, environment }: TargetOptions,
  secrets: string,
): Record<string, string> {
  const database = { DB_HOST: '', DB_SOCKET: socketPath, DB_USER: 'root', DB_NAME: databaseName };
  if (!isOtpd(name)) return { ...database, DB_CONNECTIONS: String(poolSize) };
  return {
    ...database,
    DB_PASSWORD: '',
    DB_TLS_CA: '',
    HOST: '127.0.0.1',
    OTP_SECRETS: secrets,
    TRUSTED_PROXIES: '127.0.0.0/8',
    POLICY_FILE: policyFile,
    ...environment,
  };
}

async function untilListening(child: ChildProcess, port: number): Promise<void> {
  const deadline = AbortSignal.timeout(READY_TIMEOUT_MS);
  while (!(await accepts(port))) {
    if (child.exitCode !== null) throw new Error(`a service ended with ${child.exitCode}`);
    if (deadline.aborted) throw new Error('a service does not listen');
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
