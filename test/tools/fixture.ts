/** Folders, stub programs, servers and other processes for the tests of tools/mysql. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { chmod, mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import { startMysqlServer } from '../../tools/mysql/server.ts';
import type { MysqlServer, MysqlServerOptions } from '../../tools/mysql/server.ts';
import { compiledTest } from '../harness/program.ts';

const POLL_MS = 20;
const POLLS_MAX = 1_000;

const caches = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');

/** Every run uses the cache of the user, so that MySQL is fetched once. */
export const CACHE_FOLDER = join(caches, 'otpd');

/** Runs the work with a new folder, and removes it. */
export async function withFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'otpd-test-')));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Options for a real, fast server in a folder. */
export function realOptions(folder: string): MysqlServerOptions {
  return {
    folder,
    durable: false,
    mysqld: process.env['MYSQLD'],
    searchPath: process.env['PATH'] ?? '',
    cacheFolder: CACHE_FOLDER,
    print: () => {},
  };
}

/** Runs one statement as root. */
export async function query(server: MysqlServer, sql: string): Promise<unknown> {
  const connection = await mysql.createConnection({ socketPath: server.socketPath, user: 'root' });
  try {
    return (await connection.query(sql))[0];
  } finally {
    await connection.end();
  }
}

/** Runs the work with a real, fast server in a folder, and stops it. */
export async function withServer<T>(
  folder: string,
  work: (server: MysqlServer) => Promise<T>,
): Promise<T> {
  const server = await startMysqlServer(realOptions(folder));
  try {
    return await work(server);
  } finally {
    await server.stop();
  }
}

/** Writes an executable shell script and the folders above it. */
export async function writeScript(path: string, lines: readonly string[]): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, ['#!/bin/sh', ...lines, ''].join('\n'));
  await chmod(path, 0o755);
}

/** Polls until the condition holds. Fails after 20 s. */
export async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (let poll = 0; poll < POLLS_MAX; poll += 1) {
    if (await holds()) return;
    await delay(POLL_MS);
  }
  throw new Error(`waited in vain until ${what}`);
}

/** The error of work that must fail. */
export async function failureOf(work: Promise<unknown>): Promise<Error> {
  const error = await work.then(() => undefined, (reason: unknown) => reason);
  if (error instanceof Error) return error;
  throw new Error('it should have failed');
}

/** Another process that runs a file of this folder, with lines as its messages. */
export type OtherProcess = Readonly<{
  child: ChildProcess;
  /** The next line of its output; '' at its end. */
  line: () => Promise<string>;
  send: (text: string) => void;
  kill: () => Promise<void>;
}>;

/** Starts `node <file> <parameters>`. */
export function startOther(file: string, parameters: readonly string[]): OtherProcess {
  const child = spawn(process.execPath, [compiledTest(`tools/${file}`), ...parameters], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    child,
    line: async () => (await lines.next()).value ?? '',
    send: (text) => child.stdin.write(`${text}\n`),
    kill: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
