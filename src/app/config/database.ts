/** The variables of the database connection. */
import { isIP } from 'node:net';
import type { DatabaseSettings } from '../../db/connection.ts';
import { DATABASE_NAME } from '../../db/migrate.ts';
import { PORT_MAX } from './env-reader.ts';
import type { EnvReader } from './env-reader.ts';

/**
 * The only error of an empty configuration. There is no default database, because an otpd whose
 * DB_HOST was lost would silently store codes in an empty database.
 */
export const NO_DATABASE = 'DB_HOST or DB_SOCKET must be set (for development, npm start provides'
  + ' a MySQL)';

/** Returns null, with an error, when neither DB_HOST nor DB_SOCKET is set. */
export function readDatabase(reader: EnvReader): DatabaseSettings | null {
  const name = readDatabaseName(reader);
  const host = reader.text('DB_HOST') ?? null;
  const socketPath = reader.text('DB_SOCKET') ?? null;
  if (host === null && socketPath === null) {
    reader.errors.push(NO_DATABASE);
    return null;
  }
  if (host !== null && socketPath !== null) {
    reader.errors.push('DB_HOST and DB_SOCKET exclude each other');
  }
  const user = reader.text('DB_USER');
  if (user === undefined) reader.errors.push('DB_USER must be set with DB_HOST or DB_SOCKET');
  const hasTls = reader.readFile('DB_TLS_CA') !== undefined;
  // mysql2 verifies the host name of a certificate, but no IP address in it.
  if (hasTls && host !== null && isIP(host) !== 0) {
    reader.errors.push('DB_HOST must be a name, not an address, with DB_TLS_CA');
  }
  return Object.freeze({
    host,
    socketPath,
    port: reader.whole('DB_PORT', 3306, 1, PORT_MAX),
    user: user ?? '',
    password: reader.raw('DB_PASSWORD') ?? '',
    database: name,
    tlsCaFile: hasTls ? reader.text('DB_TLS_CA') ?? null : null,
  });
}

export function readDatabaseName(reader: EnvReader): string {
  const name = reader.text('DB_NAME') ?? 'otpd';
  if (DATABASE_NAME.test(name)) return name;
  reader.errors.push('DB_NAME must be 1 to 64 letters, digits, _, $ or -');
  return '';
}
