/** One mysqld of the group: its start and its signals, and statements on it as root. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { logLines } from '../../tools/mysql/data-folder.ts';
import { locatedArguments, MYSQLD_ENVIRONMENT } from '../../tools/mysql/mysqld.ts';
import type { Mysqld, ServerFiles } from '../../tools/mysql/mysqld.ts';
import type { Facts } from './readiness.ts';

const READY_TIMEOUT_MS = 60_000;
const POLL_MS = 100;
const QUERY_TIMEOUT_MS = 10_000;

/** A server that was stopped by a signal accepts a connection and stays silent. */
const LOOK_TIMEOUT_MS = 500;

const LOOK_SQL = `SELECT @@GLOBAL.super_read_only = 0 AND @@GLOBAL.read_only = 0 AS writable,
    COALESCE(MAX(IF(member_id = @@GLOBAL.server_uuid, member_state, NULL)), 'OFFLINE') AS state,
    COALESCE(MAX(IF(member_id = @@GLOBAL.server_uuid, member_role, NULL)), '') AS role,
    COALESCE(SUM(member_id = @@GLOBAL.server_uuid AND member_state = 'ONLINE') = 1
      AND SUM(member_state IN ('ONLINE', 'RECOVERING')) * 2 > COUNT(*), 0) AS majority,
    COUNT(*) AS members
  FROM performance_schema.replication_group_members WHERE member_id <> ''`;

export type NodeOptions = Readonly<{
  index: number;
  address: string;
  port: number;
  mysqld: Mysqld;
  files: ServerFiles;
  /** What precedes the command of mysqld. */
  under: readonly string[];
  /** Options beyond those of a single server. */
  groupArguments: readonly string[];
}>;

export class Node {
  readonly options: NodeOptions;
  readonly host: string;
  readonly socketPath: string;
  #child: ChildProcess | null = null;
  /** Kept between looks. */
  #looking: Promise<Connection> | null = null;

  constructor(options: NodeOptions) {
    this.options = options;
    this.host = `${options.address}:${options.port}`;
    this.socketPath = join(options.files.folder, 's.sock');
  }

  /** 0 before the first start. */
  get processId(): number {
    return this.#child?.pid ?? 0;
  }

  get isRunning(): boolean {
    return this.#child !== null && this.#child.exitCode === null
      && this.#child.signalCode === null;
  }

  /** @throws with the end of its log when it does not answer in time */
  async start(signal: AbortSignal): Promise<void> {
    await Promise.all(['', '.lock'].map((end) => rm(`${this.socketPath}${end}`, { force: true })));
    const { under, mysqld, files } = this.options;
    const [program = '', ...parameters] = [...under, mysqld.program, ...this.#arguments()];
    const log = openSync(files.log, 'a', 0o600);
    // In a process group of its own, so that Ctrl-C reaches this command only, which ends mysqld.
    this.#child = spawn(program, parameters, {
      detached: true, env: { ...MYSQLD_ENVIRONMENT }, stdio: ['ignore', log, log],
    });
    closeSync(log);
    this.#child.once('error', () => {});
    const deadline = AbortSignal.timeout(READY_TIMEOUT_MS);
    while (await this.query('SELECT 1', LOOK_TIMEOUT_MS).catch(() => null) === null) {
      signal.throwIfAborted();
      if (deadline.aborted || !this.isRunning) {
        throw new Error(`a node does not start:\n${(await logLines(files, '')).join('\n')}`);
      }
      await delay(POLL_MS);
    }
  }

  /** Sends SIGSTOP or SIGCONT. */
  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child?.kill(name);
  }

  /** Sends SIGKILL and waits for the end of the process, which may be stopped. */
  async kill(): Promise<void> {
    this.#forget();
    if (this.#child === null || !this.isRunning || this.#child.pid === undefined) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }

  /** Runs a statement in a session of its own. */
  async query(sql: string, timeoutMs = QUERY_TIMEOUT_MS): Promise<RowDataPacket[]> {
    const session = this.#connect(timeoutMs);
    try {
      const connection = await within(session, timeoutMs);
      return (await within(connection.query<RowDataPacket[]>(sql), timeoutMs))[0];
    } finally {
      session.then((connection) => connection.destroy(), () => {});
    }
  }

  /** What the server says of itself now; null without an answer. */
  async look(): Promise<Facts | null> {
    if (!this.isRunning) return null;
    try {
      this.#looking ??= this.#connect(LOOK_TIMEOUT_MS);
      const connection = await within(this.#looking, LOOK_TIMEOUT_MS);
      const asked = connection.query<RowDataPacket[]>(LOOK_SQL);
      const [[row]] = await within(asked, LOOK_TIMEOUT_MS);
      return {
        state: String(row?.state), isPrimary: row?.role === 'PRIMARY',
        takesWrites: Number(row?.writable) === 1, hasMajority: Number(row?.majority) === 1,
        members: Number(row?.members),
      };
    } catch {
      this.#forget();
      return null;
    }
  }

  #forget(): void {
    this.#looking?.then((connection) => connection.destroy(), () => {});
    this.#looking = null;
  }

  async #connect(timeoutMs: number): Promise<Connection> {
    const connection = await mysql.createConnection({
      socketPath: this.socketPath, user: 'root', connectTimeout: timeoutMs,
      multipleStatements: true,
    });
    connection.on('error', () => {});
    return connection;
  }

  #arguments(): string[] {
    const { mysqld, files, port, index, groupArguments } = this.options;
    return [
      ...locatedArguments(mysqld, files, this.socketPath),
      `--port=${port}`,
      `--server-id=${index + 1}`,
      ...groupArguments,
    ];
  }
}

/** @throws when the work takes longer; it goes on unobserved */
async function within<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  const late = new AbortController();
  work.catch(() => {});
  const bound = delay(timeoutMs, null, { signal: late.signal }).then(() => {
    throw new Error(`no answer within ${timeoutMs} ms`);
  });
  bound.catch(() => {});
  return Promise.race([work, bound]).finally(() => late.abort());
}
