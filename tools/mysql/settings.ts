/** Where a MySQL for development is found, and where its data is kept. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { EnvReader } from '../../src/app/config/env-reader.ts';
import type { Environment } from '../../src/app/config/env-reader.ts';
import { PROJECT_FOLDER } from '../../src/app/config/config.ts';

export type MysqlSettings = Readonly<{
  /** DATA_FOLDER: data, log, socket and secrets of the development server. */
  folder: string;
  /** A fetched MySQL is kept here, once for all projects of the user. */
  cacheFolder: string;
  /** PATH. */
  searchPath: string;
  /** MYSQLD: exactly this program is used, and an unusable one is an error. */
  mysqld: string | undefined;
}>;

/** Reads DATA_FOLDER, MYSQLD, PATH and the variables that locate the user's cache. */
export function readMysqlSettings(environment: Environment): MysqlSettings {
  const reader = new EnvReader(environment);
  const home = reader.text('HOME') ?? homedir();
  const cacheHome = reader.text('XDG_CACHE_HOME') ?? join(home, '.cache');
  return Object.freeze({
    folder: reader.text('DATA_FOLDER') ?? join(PROJECT_FOLDER, '.otpd'),
    cacheFolder: join(cacheHome, 'otpd'),
    searchPath: reader.text('PATH') ?? '',
    mysqld: reader.text('MYSQLD'),
  });
}
