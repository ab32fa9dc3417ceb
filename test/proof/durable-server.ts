/** A durable MySQL of one test, which the test may kill. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MysqlServer } from '../../tools/mysql/server.ts';
import type { DatabaseSettings } from '../../src/db/connection.ts';
import { createMigrated, newDatabaseName, settingsFor } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { startTestMysql } from '../harness/mysql.ts';
import { eventually } from '../harness/waiting.ts';

export type DurableServer = Readonly<{
  settings: DatabaseSettings;
  database: TestDatabase;
  /** A path in the folder of the server, for a socket. */
  path: (name: string) => string;
  /** The id of the running mysqld, or of the last one. */
  processId: () => number;
  /** Resolves when the current mysqld has exited. */
  exited: () => Promise<unknown>;
  /** Sends SIGKILL to mysqld. */
  kill: () => Promise<void>;
  /** Sends SIGTERM to mysqld and waits for its exit. */
  shutDown: () => Promise<void>;
  start: () => Promise<void>;
  /** Kills mysqld and starts it with more options, and without some of its own. */
  restartWith: (added: readonly string[], removed?: readonly string[]) => Promise<void>;
  stop: () => Promise<void>;
}>;

export async function startDurableServer(): Promise<DurableServer> {
  const scratch = mkdtempSync(join(tmpdir(), 'otpd-faults-'));
  let server = await launch(scratch);
  const database = await createMigrated(settingsFor(newDatabaseName(), server.socketPath));
  let restarted: ChildProcess | null = null;
  const endRestarted = async (): Promise<void> => {
    if (restarted === null) return;
    const exit = once(restarted, 'exit');
    restarted.kill('SIGKILL');
    await exit;
    restarted = null;
  };
  return {
    settings: database.settings,
    database,
    path: (name) => join(scratch, name),
    processId: () => server.processId,
    exited: () => server.exited,
    kill: async () => {
      process.kill(server.processId, 'SIGKILL');
      await server.exited;
    },
    shutDown: () => server.stop(),
    start: async () => {
      await endRestarted();
      server = await launch(scratch);
    },
    restartWith: async (added, removed = []) => {
      const read = (name: string): string[] =>
        readFileSync(`/proc/${server.processId}/${name}`, 'utf8').split('\0').slice(0, -1);
      const [program = '', ...options] = read('cmdline')
        .filter((option) => !removed.includes(option));
      const env = Object.fromEntries(read('environ').map((line) => line.split(/=(.*)/s)));
      process.kill(server.processId, 'SIGKILL');
      await server.exited;
      restarted = spawn(program, [...options, ...added], { stdio: 'ignore', env });
      await eventually('MySQL answers', () =>
        database.query('SELECT 1').then(() => true, () => false));
    },
    stop: async () => {
      database.close();
      await endRestarted();
      await server.stop();
      rmSync(scratch, { recursive: true, force: true });
    },
  };
}

function launch(scratch: string): Promise<MysqlServer> {
  return startTestMysql({ folder: join(scratch, 'mysql'), durable: true });
}
