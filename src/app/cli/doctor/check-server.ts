/** The checks of the MySQL server: version, session variables, durability and capacity. */
import type { WriteObstacle } from '../../../db/checks/health.ts';
import type { ServerFacts, ServerName } from '../../../db/checks/inspect.ts';
import {
  compareVersions, checkVersion, MYSQL_REMEDY, parseVersionLine,
} from '../../../db/checks/mysql-version.ts';
import { SESSION_VARIABLES } from '../../../db/session.ts';
import { fault, ok, warn } from '../../output.ts';
import type { Finding } from '../../output.ts';

/** 8.0 had its last release in April 2026; 8.1 to 8.3 were innovation releases without support. */
const MAINTAINED = { major: 8, minor: 4, patch: 0 } as const;

/** A batch of 128 requests with the longest names takes about 1 MB; the default is 64 MB. */
const PACKET_BYTES_MIN = 4 * 1024 * 1024;

/** The rest is for other clients: another otpd, a migration, an operator. */
const CONNECTIONS_SHARE = 0.8;

const MEGABYTE = 1024 * 1024;

export function checkServerName({ version, comment }: ServerName): Finding {
  const line = `Ver ${version} ${comment}`;
  const verdict = checkVersion(line);
  if (!verdict.usable) {
    return fault('version', `the server ${verdict.reason}`, MYSQL_REMEDY);
  }
  const read = parseVersionLine(line);
  const found = `MySQL ${version}`;
  const isMaintained = read?.kind === 'mysql' && compareVersions(read.version, MAINTAINED) >= 0;
  return isMaintained ? ok('version', found)
    : warn('version', `${found} is out of support`, MYSQL_REMEDY);
}

/** The statements rely on these variables, and a proxy may have changed or dropped them. */
export function checkSession({ session }: ServerFacts): Finding[] {
  const wrong = Object.entries(SESSION_VARIABLES)
    .filter(([name, wanted]) => sorted(session[name] ?? '') !== sorted(wanted));
  if (wrong.length === 0) {
    return [ok('session', 'READ-COMMITTED, strict mode, binary collation, UTC')];
  }
  return wrong.map(([name, wanted]) => fault('session',
    `${name} is ${session[name]} although otpd sets ${wanted}`,
    'connect to MySQL directly, or make the proxy keep session variables'));
}

function sorted(list: string): string {
  return list.split(',').sort().join();
}

/** Checks that an acknowledged commit survives a crash of the machine. */
export function checkDurability(facts: ServerFacts): Finding[] {
  const { flushLogAtCommit, hasBinlog, syncBinlog } = facts;
  const findings: Finding[] = [];
  const lost = 'a crash loses answered requests';
  if (flushLogAtCommit !== 1) {
    findings.push(fault('durability',
      `innodb_flush_log_at_trx_commit is ${flushLogAtCommit}: ${lost}`,
      'SET PERSIST innodb_flush_log_at_trx_commit = 1'));
  }
  if (hasBinlog && syncBinlog !== 1) {
    findings.push(fault('durability', `sync_binlog is ${syncBinlog}: ${lost}`,
      'SET PERSIST sync_binlog = 1'));
  }
  if (findings.length > 0) return findings;
  return [ok('durability', `every commit is flushed${hasBinlog ? ', and so is the binlog' : ''}`)];
}

export function checkWritable(obstacles: readonly WriteObstacle[]): Finding[] {
  if (obstacles.length === 0) return [ok('writable', 'the server accepts writes')];
  return obstacles.map(({ check, found, remedy }) =>
    fault(check === 'read_only' ? 'writable' : check, found, remedy));
}

export function checkGroup(hasSeveralPrimaries: boolean): Finding[] {
  if (!hasSeveralPrimaries) return [];
  return [warn('group', 'group_replication_single_primary_mode is OFF: the members share no row'
    + ' locks, so limits are not exact',
  'let every otpd write to the same member, or switch the group to a single primary')];
}

export type ConnectionLimits = Readonly<{ connections: number; workers: number }>;

export function checkCapacity(
  facts: ServerFacts,
  tableBytes: number,
  { connections, workers }: ConnectionLimits,
): Finding[] {
  const { connectionsMax, userConnectionsMax, bufferPoolBytes, packetBytesMax } = facts;
  const needed = connections * workers;
  const room = `DB_CONNECTIONS x WORKERS is ${needed}, max_connections ${connectionsMax}`;
  const lower = 'lower DB_CONNECTIONS or raise max_connections';
  const pool = `innodb_buffer_pool_size is ${megabytes(bufferPoolBytes)}, `
    + `the tables are ${megabytes(tableBytes)}`;
  const packet = `max_allowed_packet is ${megabytes(packetBytesMax)}`;
  return [
    needed > connectionsMax ? fault('connections', room, lower)
      : needed > connectionsMax * CONNECTIONS_SHARE
        ? warn('connections', `${room}: little is left for other clients`, lower)
        : ok('connections', room),
    ...checkAccountLimit(userConnectionsMax, needed, workers === 1 ? 2 : workers + 3),
    bufferPoolBytes >= tableBytes ? ok('memory', pool)
      : warn('memory', pool, 'raise innodb_buffer_pool_size above the size of the tables'),
    packetBytesMax >= PACKET_BYTES_MIN ? ok('packets', packet)
      : fault('packets', `${packet}: large batches fail`,
        `SET PERSIST max_allowed_packet = ${PACKET_BYTES_MIN} or more`),
  ];
}

/** @param others the watch of each process; of the first one, readiness and with workers support */
function checkAccountLimit(limit: number, needed: number, others: number): Finding[] {
  if (limit === 0 || limit >= needed + others) return [];
  return [warn('connections', `the account may have ${limit} connections (MAX_USER_CONNECTIONS or`
    + ` max_user_connections), DB_CONNECTIONS x WORKERS is ${needed}, checks take ${others} more`,
  'ALTER USER … WITH MAX_USER_CONNECTIONS …, or lower DB_CONNECTIONS or WORKERS')];
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / MEGABYTE)} MB`;
}
