/**
 * A MySQL server whose global variables a test sets, with an account that has no administrative
 * privilege: `init_connect` and every limit apply to it.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DatabaseSettings } from '../../src/db/connection.ts';
import type { ConnectionPool } from '../../src/db/pool.ts';
import type { Row } from '../../src/db/query.ts';
import {
  createMigrated, newDatabaseName, runStatement, settingsFor,
} from '../harness/database.ts';
import { startTestMysql } from '../harness/mysql.ts';
import { startTestService } from '../harness/service.ts';
import type { TestService } from '../harness/service.ts';

export type Fixture = Readonly<{
  settings: DatabaseSettings; pool: ConnectionPool; service: TestService;
}>;

export type PlainServer = Readonly<{
  rootSettings: (database?: string | null) => DatabaseSettings;
  /** Runs one statement as root. */
  asRoot: (sql: string) => Promise<Row[]>;
  /** A new database, as the plain account sees it. */
  newSettings: () => DatabaseSettings;
  /** Runs work with a service and a new, migrated database, both of the plain account. */
  withService: (work: (fixture: Fixture) => Promise<void>) => Promise<void>;
  stop: () => Promise<void>;
}>;

const ACCOUNT = { user: 'plain', password: '' };

export const CONNECTIONS_MAX = 4;

export async function startPlainServer(): Promise<PlainServer> {
  const scratch = mkdtempSync(join(tmpdir(), 'otpd-plain-'));
  const server = await startTestMysql({ folder: join(scratch, 'mysql'), durable: false });
  const rootSettings = (database: string | null = null): DatabaseSettings =>
    settingsFor(database, server.socketPath);
  const asRoot = (sql: string): Promise<Row[]> => runStatement(rootSettings(), sql);
  await asRoot(`CREATE USER ${ACCOUNT.user}@localhost`);
  await asRoot(`GRANT ALL ON \`otpd\\_test\\_%\`.* TO ${ACCOUNT.user}@localhost`);
  const newSettings = (): DatabaseSettings =>
    ({ ...rootSettings(newDatabaseName()), ...ACCOUNT });
  const withService: PlainServer['withService'] = async (work) => {
    const settings = newSettings();
    const { pool, close } = await createMigrated(settings, CONNECTIONS_MAX);
    const service = await startTestService({ pool });
    try {
      await work({ settings, pool, service });
    } finally {
      await service.close();
      close();
    }
  };
  const stop = async (): Promise<void> => {
    await server.stop();
    rmSync(scratch, { recursive: true, force: true });
  };
  return { rootSettings, asRoot, newSettings, withService, stop };
}
