/** A MySQL for tests: in a folder of its own, on a unix socket, with nothing in it. */
import { readConfig } from '../../src/app/config/config.ts';
import { startLocalServer } from '../../src/db/local/launch.ts';
import type { LocalServer, LocalServerOptions } from '../../src/db/local/launch.ts';
import { SHELL } from './program.ts';

type Options = Pick<LocalServerOptions, 'folder' | 'durable' | 'signal'>
  & Partial<Pick<LocalServerOptions, 'say'>>;

/** Starts a server; MySQL is fetched first where there is none. */
export function startTestMysql({ say = () => {}, ...options }: Options): Promise<LocalServer> {
  const { local } = readConfig(SHELL);
  return startLocalServer({ ...local, ...options, say });
}
