/** A MySQL for tests: in a folder of its own, on a unix socket, with nothing in it. */
import { startMysqlServer } from '../../tools/mysql/server.ts';
import type { MysqlServer, MysqlServerOptions } from '../../tools/mysql/server.ts';
import { readMysqlSettings } from '../../tools/mysql/settings.ts';
import { SHELL } from './program.ts';

type Options = Pick<MysqlServerOptions, 'folder' | 'durable' | 'signal'>
  & Partial<Pick<MysqlServerOptions, 'print'>>;

/** Starts a server. MySQL is fetched first where there is none. */
export function startTestMysql({ print = () => {}, ...options }: Options): Promise<MysqlServer> {
  return startMysqlServer({ ...readMysqlSettings(SHELL), ...options, print });
}
