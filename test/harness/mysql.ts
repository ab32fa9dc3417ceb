/** A MySQL server for tests: in its own folder, on a unix socket, without data. */
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
