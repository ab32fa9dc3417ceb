/** Where the user's own database is, and how it is reached. */
import { isIP } from 'node:net';
import type { DatabaseSettings } from '../../db/connection.ts';
import { DATABASE_NAME } from '../../db/migrate.ts';
import { PORT_MAX } from './env-reader.ts';
import type { EnvReader } from './env-reader.ts';

/**
 * Reads DB_HOST or DB_SOCKET, and what belongs to them.
 *
 * @returns null when neither is set: the database is a private one
 */
export function readDatabase(reader: EnvReader, name: string): DatabaseSettings | null {
  const host = reader.text('DB_HOST') ?? null;
  const socketPath = reader.text('DB_SOCKET') ?? null;
  if (host === null && socketPath === null) return null;
  if (host !== null && socketPath !== null) {
    reader.errors.push('DB_HOST and DB_SOCKET exclude each other');
  }
  const user = reader.text('DB_USER');
  if (user === undefined) reader.errors.push('DB_USER must be set with DB_HOST or DB_SOCKET');
  const hasTls = reader.readFile('DB_TLS_CA') !== undefined;
  // The driver verifies the names of certificates, and not the addresses in them.
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

/** Reads DB_NAME, which the private server has, too. */
export function readDatabaseName(reader: EnvReader): string {
  const name = reader.text('DB_NAME') ?? 'otpd';
  if (DATABASE_NAME.test(name)) return name;
  reader.errors.push('DB_NAME must be 1 to 64 letters, digits, _, $ or -');
  return '';
}
