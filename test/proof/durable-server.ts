/** A durable MySQL of one test, which the test may kill. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MysqlServer } from '../../tools/mysql/server.ts';
import type { DatabaseSettings } from '../../src/db/connection.ts';
import { createMigrated, newDatabaseName, settingsFor } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { startTestMysql } from '../harness/mysql.ts';

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
  stop: () => Promise<void>;
}>;

export async function startDurableServer(): Promise<DurableServer> {
  const scratch = mkdtempSync(join(tmpdir(), 'otpd-faults-'));
  let server = await launch(scratch);
  const database = await createMigrated(settingsFor(newDatabaseName(), server.socketPath));
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
    start: async () => { server = await launch(scratch); },
    stop: async () => {
      database.close();
      await server.stop();
      rmSync(scratch, { recursive: true, force: true });
    },
  };
}

function launch(scratch: string): Promise<MysqlServer> {
  return startTestMysql({ folder: join(scratch, 'mysql'), durable: true });
}
