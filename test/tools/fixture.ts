/** Folders, stub programs, servers and other processes for the tests of tools/mysql. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import mysql from 'mysql2/promise';
import { startMysqlServer } from '../../tools/mysql/server.ts';
import type { MysqlServer, MysqlServerOptions } from '../../tools/mysql/server.ts';
import { compiledTest } from '../harness/program.ts';

const caches = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');

/** Every run uses the cache of the user, so that MySQL is fetched once. */
export const CACHE_FOLDER = join(caches, 'otpd');

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
