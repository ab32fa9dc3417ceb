/** A durable MySQL of a test's own, which the test may kill, and services on it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MysqlServer } from '../../tools/mysql/server.ts';
import type { DatabaseSettings } from '../../src/db/connection.ts';
import { createMigrated, newDatabaseName, settingsFor } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { startTestMysql } from '../harness/mysql.ts';

/** The server and its one database. */
export type DurableServer = Readonly<{
  settings: DatabaseSettings;
  database: TestDatabase;
  /** A path in its folder, for a socket. */
  path: (name: string) => string;
  /** Of the mysqld that runs, or ran last. */
  processId: () => number;
  /** Resolves when that mysqld has ended. */
  exited: () => Promise<unknown>;
  /** Ends mysqld as kill -9 does. */
  kill: () => Promise<void>;
  /** Asks mysqld to end, as an operator does, and waits until it has. */
  shutDown: () => Promise<void>;
  start: () => Promise<void>;
  stop: () => Promise<void>;
}>;

/** Starts a server with an empty, migrated database. */
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
