/** A MySQL server for tests: in its own folder, on a unix socket, without data. */
import { checkServerName } from '../../src/app/cli/doctor/check-server.ts';
import type { Finding } from '../../src/app/output.ts';
import { readServerName } from '../../src/db/checks/inspect.ts';
import { openConnection } from '../../src/db/connection.ts';
import type { DatabaseSettings } from '../../src/db/connection.ts';
import { startMysqlServer } from '../../tools/mysql/server.ts';
import type { MysqlServer, MysqlServerOptions } from '../../tools/mysql/server.ts';
import { readMysqlSettings } from '../../tools/mysql/settings.ts';
import { SHELL } from './program.ts';

type Options = Pick<MysqlServerOptions, 'folder' | 'durable' | 'signal'>
  & Partial<Pick<MysqlServerOptions, 'print'>>;

/** Starts a server. MySQL is fetched first when none is installed. */
export function startTestMysql({ print = () => {}, ...options }: Options): Promise<MysqlServer> {
  return startMysqlServer({ ...readMysqlSettings(SHELL), ...options, print });
}

/** What doctor must find about the version of a server: a warning where it is out of support. */
export async function expectedVersion(settings: DatabaseSettings): Promise<Finding> {
  const connection = await openConnection(settings);
  try {
    return checkServerName(await readServerName(connection));
  } finally {
    connection.destroy();
  }
}
