/**
 * What a server says of itself: its role, and for `otpd doctor` its version, settings, privileges
 * and tables. Changes nothing.
 */
import type { Connection } from '../connection.ts';
import { StatementError, Unavailable } from '../errors.ts';
import type { PrimaryFault } from '../errors.ts';
import { checkVersion, MYSQL_REMEDY } from './mysql-version.ts';
import { parseInstant } from '../instant.ts';
import type { Instant } from '../instant.ts';
import { SESSION_VARIABLES } from '../session.ts';
import { KEY_DIGEST_BYTES } from '../tables/idempotency-keys.ts';
import { insertOtps } from '../tables/otps-write.ts';

export type ServerName = Readonly<{ version: string; comment: string }>;

export type ServerFacts = Readonly<{
  flushLogAtCommit: number;
  hasBinlog: boolean;
  syncBinlog: number;
  bufferPoolBytes: number;
  connectionsMax: number;
  /** How many connections the account may have; 0: no limit of its own. */
  userConnectionsMax: number;
  packetBytesMax: number;
  /** The values of SESSION_VARIABLES in this session. */
  session: Readonly<Record<string, string>>;
  /** Quoted as in GRANT: `'otpd'@'%'`. */
  account: string;
}>;

/** Works on any server, even one that is not MySQL 8. */
export async function readServerName(connection: Connection): Promise<ServerName> {
  // sql_select_limit may be 0 in a connection that is not set up.
  const sql = 'SELECT @@version AS version, @@version_comment AS comment LIMIT 1';
  const [row] = await connection.run('server.name', sql, []);
  return { version: String(row?.version), comment: String(row?.comment) };
}

/** @throws Unavailable when the server is not MySQL, or too old */
export async function requireMysql(connection: Connection): Promise<void> {
  const { version, comment } = await readServerName(connection);
  const verdict = checkVersion(`Ver ${version} ${comment}`);
  if (verdict.usable) return;
  throw new Unavailable(`the server ${verdict.reason}`, { remedy: MYSQL_REMEDY });
}

const FACTS_SQL = `SELECT
  @@innodb_flush_log_at_trx_commit AS flush_log, @@log_bin AS log_bin,
  @@sync_binlog AS sync_binlog,
  @@SESSION.max_user_connections AS user_connections,
  @@innodb_buffer_pool_size AS pool, @@max_connections AS connections,
  @@max_allowed_packet AS packet, CURRENT_USER() AS account,
  ${Object.keys(SESSION_VARIABLES).map((name) => `@@${name} AS ${name}`).join(', ')}`;

export async function readServerFacts(connection: Connection): Promise<ServerFacts> {
  const [row = {}] = await connection.run('server.facts', FACTS_SQL, []);
  return {
    flushLogAtCommit: Number(row.flush_log),
    hasBinlog: Number(row.log_bin) === 1,
    syncBinlog: Number(row.sync_binlog),
    bufferPoolBytes: Number(row.pool),
    connectionsMax: Number(row.connections),
    userConnectionsMax: Number(row.user_connections),
    packetBytesMax: Number(row.packet),
    session: Object.fromEntries(
      Object.keys(SESSION_VARIABLES).map((name) => [name, String(row[name])]),
    ),
    account: quoteAccount(String(row.account)),
  };
}

function quoteAccount(account: string): string {
  const at = account.lastIndexOf('@');
  return `'${account.slice(0, at)}'@'${account.slice(at + 1)}'`;
}

export async function readServerClock(connection: Connection): Promise<Instant> {
  const [row] = await connection.run('server.clock', 'SELECT NOW(6) AS now', []);
  return parseInstant(row?.now as string);
}

/** True when every member of the group takes writes, even before the server has joined it. */
export async function hasSeveralPrimaries(connection: Connection): Promise<boolean> {
  const sql = "SHOW GLOBAL VARIABLES LIKE 'group_replication_single_primary_mode'";
  const [row] = await connection.run('server.group', sql, []);
  return row?.Value === 'OFF';
}

/** SHOW leaves out what a version or a server without the plugin lacks. */
const HOST_SQL = `SHOW GLOBAL VARIABLES WHERE variable_name LIKE 'group\\_replication\\_%'
  OR variable_name IN ('version', 'replica_parallel_workers', 'slave_parallel_workers')`;

/** The variables that decide how a group or a pair fails over. */
export async function readHostVariables(
  connection: Connection,
): Promise<ReadonlyMap<string, string>> {
  const rows = await connection.run('server.host', HOST_SQL, []);
  return new Map(rows.map(({ Variable_name, Value }) => [String(Variable_name), String(Value)]));
}

/** A value that was set since the start, by the group or by hand, hides that of the file. */
const STARTS_READ_ONLY_SQL = `SELECT EXISTS (SELECT 1 FROM performance_schema.persisted_variables
    WHERE variable_name = 'super_read_only' AND variable_value = 'ON')
  OR EXISTS (SELECT 1 FROM performance_schema.variables_info WHERE variable_name = 'super_read_only'
    AND variable_source NOT IN ('COMPILED', 'DYNAMIC', 'PERSISTED')) AS is_seen LIMIT 1`;

/** True when the server is seen to start with super_read_only. */
export async function startsReadOnly(connection: Connection): Promise<boolean> {
  const [row] = await connection.run('server.start', STARTS_READ_ONLY_SQL, []);
  return Number(row?.is_seen) === 1;
}

/** Data and indexes of the database, as the server estimates them. */
export async function readTableBytes(connection: Connection): Promise<number> {
  const sql = `SELECT COALESCE(SUM(data_length + index_length), 0) AS bytes
    FROM information_schema.tables WHERE table_schema = DATABASE()`;
  const [row] = await connection.run('server.table_bytes', sql, []);
  return Number(row?.bytes);
}

/** One GRANT statement per element. */
export async function readGrants(connection: Connection): Promise<string[]> {
  const rows = await connection.run('server.grants', 'SHOW GRANTS', []);
  return rows.map((row) => String(Object.values(row)[0]));
}

/** The tables that `serve` writes, each with a column for a trial UPDATE. */
const TABLES: ReadonlyMap<string, string> = new Map([
  ['otps', 'digest'],
  ['ip_rate_limits', 'points'],
  ['ip_rate_overflow', 'points'],
  ['idempotency_keys', 'expires_at'],
  ['outbox', 'leased_until'],
  ['limit_hits', 'points'],
  ['wrong_counts', 'consecutive_wrong'],
  ['write_checks', 'connection_id'],
  ['device_revocations', 'revoked_at'],
]);

type MissingPrivilege = Readonly<{ privilege: string; table: string }>;

/** The missing privileges, and any other error that ended the trial. */
export type WriteTrial = Readonly<{
  denied: readonly MissingPrivilege[];
  failure: StatementError | null;
}>;

/** Tables that do not exist, or that the account cannot see. */
export async function findMissingTables(connection: Connection): Promise<string[]> {
  const sql = `SELECT table_name AS name FROM information_schema.tables
    WHERE table_schema = DATABASE()`;
  const rows = await connection.run('server.tables', sql, []);
  const found = new Set(rows.map(({ name }) => name));
  return [...TABLES.keys()].filter((table) => !found.has(table));
}

/**
 * Tries each statement on each table without touching a row, then inserts an OTP with an empty
 * user_id, which no request can have, and rolls back.
 */
export async function tryWrites(connection: Connection): Promise<WriteTrial> {
  const denied: MissingPrivilege[] = [];
  try {
    for (const [table, column] of TABLES) {
      const trials = [
        ['SELECT', `SELECT 1 FROM ${table} LIMIT 0`],
        ['INSERT', `INSERT INTO ${table} SELECT * FROM ${table} WHERE FALSE`],
        ['UPDATE', `UPDATE ${table} SET ${column} = ${column} WHERE FALSE`],
        ['DELETE', `DELETE FROM ${table} WHERE FALSE`],
      ] as const;
      for (const [privilege, sql] of trials) {
        if (!(await isAllowed(connection, sql))) denied.push({ privilege, table });
      }
    }
    if (denied.length === 0) await tryInsert(connection);
    return { denied, failure: null };
  } catch (error) {
    if (!(error instanceof StatementError)) throw error;
    return { denied, failure: error };
  } finally {
    if (!connection.isDestroyed()) await connection.run('rollback', 'ROLLBACK', []);
  }
}

async function isAllowed(connection: Connection, sql: string): Promise<boolean> {
  try {
    await connection.run('server.try', sql, []);
    return true;
  } catch (error) {
    if (error instanceof StatementError && error.isDenied) return false;
    throw error;
  }
}

async function tryInsert(connection: Connection): Promise<void> {
  const { name, sql, values } = insertOtps([{
    userId: '', number: 0, purpose: '', device: '', otpId: '00'.repeat(16), keyId: '', digest: '',
    createdAt: 0, expiresAt: 0, redeemedAt: null, wrongAttempts: 0, lastWrongAt: null,
    lockedUntil: null, consecutiveWrong: 0, verifyIds: '', batchId: '00'.repeat(8),
    batchNumber: 0, channel: '', closeReason: null, isRefunded: false,
    codeDigits: 6, attemptsMax: 1, lockSeconds: 1, keyDigest: '00'.repeat(KEY_DIGEST_BYTES),
    keyExpiresAt: 0, remainingRequests: 0, apiClient: null,
  }]);
  await connection.run(name, sql, values);
}

/** What a server says of itself. */
export type Role = Readonly<{
  takesWrites: boolean;
  /** True without a group, and when the account may not see the group. */
  hasQuorum: boolean;
  serverId: string;
  /** The ids of the servers of its group; empty without one. */
  members: readonly string[];
  /** False when the account may not read the table of the members. */
  seesGroup: boolean;
}>;

const FLAGS = `@@GLOBAL.server_uuid AS server_id, @@GLOBAL.read_only = 0
  AND @@GLOBAL.super_read_only = 0 AND @@GLOBAL.innodb_read_only = 0 AS takes_writes`;

/** A server that was never in a group has at most one row, without an id. */
const ROLE_SQL = `SELECT ${FLAGS}, COALESCE(GROUP_CONCAT(member_id), '') AS members,
    COUNT(*) = 0 OR (SUM(member_id = @@GLOBAL.server_uuid AND member_state = 'ONLINE') = 1
      AND SUM(member_state IN ('ONLINE', 'RECOVERING')) * 2 > COUNT(*)) AS has_quorum
  FROM performance_schema.replication_group_members WHERE member_id <> '' LIMIT 1`;

/** For an account without SELECT on the table of the members. */
const FLAGS_SQL = `SELECT ${FLAGS}, '' AS members, 1 AS has_quorum LIMIT 1`;

/**
 * Ends no transaction: with the consistency `before` even a ROLLBACK outside of one waits for the
 * group, without a bound when that has lost its majority.
 *
 * @param access remembers that the account may not see the group, which is not tried again
 */
export async function readRole(
  connection: Connection,
  access: { seesGroup: boolean } = { seesGroup: true },
): Promise<Role> {
  try {
    const sql = access.seesGroup ? ROLE_SQL : FLAGS_SQL;
    const [row = {}] = await connection.run('primary.role', sql, []);
    return {
      takesWrites: Number(row.takes_writes) === 1,
      hasQuorum: Number(row.has_quorum) === 1,
      serverId: String(row.server_id),
      members: String(row.members).split(',').filter((id) => id !== ''),
      seesGroup: access.seesGroup,
    };
  } catch (error) {
    if (!(error instanceof StatementError) || !error.isDenied || !access.seesGroup) throw error;
    access.seesGroup = false;
    return readRole(connection, access);
  }
}

export function isPrimary(role: Role | null): role is Role {
  return role !== null && role.takesWrites && role.hasQuorum;
}

export function faultOf(roles: readonly Role[]): PrimaryFault {
  if (roles.length === 0) return 'database';
  const isWriterAlone = roles.some(({ takesWrites, hasQuorum }) => takesWrites && !hasQuorum);
  return isWriterAlone || roles.every(({ hasQuorum }) => !hasQuorum) ? 'quorum' : 'read_only';
}

export function describeRole({ takesWrites, hasQuorum }: Role): string {
  if (!hasQuorum) return 'has no majority of its group';
  return takesWrites ? 'is not the primary any more' : 'takes no writes';
}

/** Whether two of these servers take writes and are neither one server nor in one group. */
export function areSplit(roles: readonly Role[]): boolean {
  const primaries = roles.filter(isPrimary);
  return primaries.some((one) => primaries.some((other) => !areOne(one, other)));
}

/** Two names of one server, or two members of one group. */
function areOne(a: Role, b: Role): boolean {
  return a.serverId === b.serverId || a.members.includes(b.serverId)
    || b.members.includes(a.serverId);
}
