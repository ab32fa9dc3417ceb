/** The variables of the database connection. */
import { isIP } from 'node:net';
import { TLS_MODES } from '../../db/connection.ts';
import type { DatabaseSettings } from '../../db/connection.ts';
import type { Advice } from '../../db/errors.ts';
import { DATABASE_NAME } from '../../db/migrate.ts';
import { PORT_MAX } from './env-reader.ts';
import type { EnvReader } from './env-reader.ts';
import { isLoopbackHost } from '../../otp/channels/channel.ts';

/**
 * The only error of an empty configuration. There is no default database, because an otpd whose
 * DB_HOST was lost would silently store codes in an empty database.
 */
export const NO_DATABASE = 'DB_HOST or DB_SOCKET must be set (for development, npm start provides'
  + ' a MySQL)';

/**
 * The settings for each host of the database, at least one.
 *
 * @returns null, with an error, when neither DB_HOST nor DB_SOCKET is set
 */
export function readServers(reader: EnvReader): readonly DatabaseSettings[] | null {
  const name = readDatabaseName(reader);
  const list = reader.text('DB_HOST') ?? null;
  const socketPath = reader.text('DB_SOCKET') ?? null;
  if (list === null && socketPath === null) {
    reader.errors.push(NO_DATABASE);
    return null;
  }
  if (list !== null && socketPath !== null) {
    reader.errors.push('DB_HOST and DB_SOCKET exclude each other');
  }
  const port = reader.whole('DB_PORT', 3306, 1, PORT_MAX);
  const hosts = list === null ? [{ host: null, port }] : readHosts(reader, list, port);
  const user = reader.text('DB_USER');
  if (user === undefined) reader.errors.push('DB_USER must be set with DB_HOST or DB_SOCKET');
  const common = {
    socketPath,
    user: user ?? '',
    password: reader.secret('DB_PASSWORD') ?? '',
    database: name,
    ...readTls(reader, hosts),
  };
  return Object.freeze(hosts.map((host) => Object.freeze({ ...host, ...common })));
}

type Host = Readonly<{ host: string | null; port: number }>;

/** `[::1]:3306`, or a name or an IPv4 address, with or without a port. */
const HOST = /^(?:\[([^[\]]*)\]|([^\s:/@[\]]+))(?::(.*))?$/;

function readHosts(reader: EnvReader, list: string, defaultPort: number): Host[] {
  const hosts = list.split(',').map((part): Host => {
    const text = part.trim();
    if (isIP(text) !== 0) return { host: text, port: defaultPort };
    const [, address, name, ownPort] = HOST.exec(text) ?? [];
    const isHost = address === undefined ? name !== undefined : isIP(address) === 6;
    const port = ownPort === undefined ? defaultPort : /^\d{1,5}$/.test(ownPort) && Number(ownPort);
    const rule = text === '' ? 'is empty; remove a comma'
      : !isHost ? 'is not a host; write name, name:port, 10.0.0.5:port or [::1]:port'
        : !port || port > PORT_MAX ? `has no port from 1 to ${PORT_MAX} after its colon` : null;
    if (rule !== null) reader.errors.push(`DB_HOST: ${JSON.stringify(text)} ${rule}`);
    return { host: address ?? name ?? text, port: port || defaultPort };
  });
  hosts.forEach(({ host, port }, index) => {
    const isAgain = hosts.findIndex((one) => one.host === host && one.port === port) !== index;
    if (isAgain && host !== '') reader.errors.push(`DB_HOST: ${host} port ${port} is named twice`);
  });
  return hosts;
}

/** DB_TLS_CA alone means the strictest mode. A mode that would ignore DB_TLS_CA is an error. */
function readTls(
  reader: EnvReader,
  hosts: readonly Host[],
): Pick<DatabaseSettings, 'tls' | 'tlsCaFile'> {
  const hasCa = reader.readFile('DB_TLS_CA') !== undefined;
  const chosen = reader.choice('DB_TLS', TLS_MODES);
  const tls = chosen ?? (hasCa ? 'verify-full' : 'off');
  if (hasCa && (tls === 'off' || tls === 'require')) {
    reader.errors.push(`DB_TLS=${tls} checks no certificate: remove DB_TLS_CA, or set`
      + ' DB_TLS=verify-ca or verify-full');
  }
  if (tls === 'verify-ca' && reader.text('DB_TLS_CA') === undefined) {
    reader.errors.push('DB_TLS=verify-ca needs DB_TLS_CA, the CA certificate of the server');
  }
  // The driver compares the certificate with a name, and with no IP address.
  const addresses = hosts.flatMap(({ host }) => (isIP(host ?? '') === 0 ? [] : [host]));
  if (tls === 'verify-full' && addresses.length > 0) {
    reader.errors.push(`DB_HOST must be a name, not an address (${addresses.join(', ')}), with`
      + ' DB_TLS=verify-full: an address does not fit the name in a certificate (DB_TLS=verify-ca'
      + ' checks the CA alone)');
  }
  return { tls, tlsCaFile: hasCa ? reader.text('DB_TLS_CA') ?? null : null };
}

/**
 * The warning about a connection that others on the network can read; null when it is encrypted, or
 * does not leave this machine.
 */
export function findClearText(servers: readonly DatabaseSettings[]): Advice | null {
  const hosts = servers.flatMap(({ host, tls }) =>
    (tls !== 'off' || host === null || isLoopbackHost(host) ? [] : [host]));
  if (hosts.length === 0) return null;
  return {
    found: `the connection to DB_HOST ${hosts.join(', ')} is not encrypted (DB_TLS=off): others can`
      + ' read user ids and digests, and could learn the password',
    remedy: 'set DB_TLS=verify-full or verify-ca with DB_TLS_CA, or at least DB_TLS=require',
  };
}

export function readDatabaseName(reader: EnvReader): string {
  const name = reader.text('DB_NAME') ?? 'otpd';
  if (DATABASE_NAME.test(name)) return name;
  reader.errors.push('DB_NAME must be 1 to 64 letters, digits, _, $ or -');
  return '';
}
