/**
 * The checks of the database. An error that makes the later checks pointless ends them: without a
 * connection there is one finding.
 */
import {
  checkCapacity, checkDurability, checkGroup, checkServerName, checkSession, checkWritable,
} from './check-server.ts';
import type { ConnectionLimits } from './check-server.ts';
import { findWriteObstacles, isInGroup } from '../../../db/checks/health.ts';
import {
  areSplit, describeRole, faultOf, findMissingTables, hasSeveralPrimaries, isPrimary, readGrants,
  readHostVariables, readRole, readServerClock, readServerFacts, readServerName, readTableBytes,
  startsReadOnly, tryWrites,
} from '../../../db/checks/inspect.ts';
import type { Role, WriteTrial } from '../../../db/checks/inspect.ts';
import { hostLabel, openConnection } from '../../../db/connection.ts';
import type { DatabaseSettings, Connection } from '../../../db/connection.ts';
import { NO_GROUP, NO_PRIMARY_REMEDIES, RUN_MIGRATE } from '../../../db/errors.ts';
import { MICROSECONDS_PER_SECOND } from '../../../db/instant.ts';
import type { Instant } from '../../../db/instant.ts';
import { readSchemaFiles, readSchemaStatus, readSchemaStatusOn } from '../../../db/migrate.ts';
import type { ConnectionPool } from '../../../db/pool.ts';
import { NO_SETUP_SQL } from '../../../db/session.ts';
import { fault, ok, toConnectionFinding, warn } from '../../output.ts';
import type { Finding } from '../../output.ts';

export type DoctorTarget = ConnectionLimits & Readonly<{
  settings: DatabaseSettings;
  pool: ConnectionPool;
  readHostClock: () => Instant;
}>;

/** Changes nothing in the database. An error of the database becomes a finding. */
export async function checkDatabase(target: DoctorTarget): Promise<Finding[]> {
  const findings: Finding[] = [];
  try {
    const version = await withConnection(target, NO_SETUP_SQL, readServerName);
    findings.push(ok('connection', 'the server answers'), checkServerName(version));
    if (findings.some(({ level }) => level === 'fault')) return findings;
    await withConnection(target, undefined, (connection) =>
      checkServer(target, connection, findings));
  } catch (error) {
    findings.push(toConnectionFinding(error));
  }
  return findings;
}

/** One host of DB_HOST; `role` is null when it was not reached, for the reason in `error`. */
type HostFacts = Readonly<{
  settings: DatabaseSettings;
  error: unknown;
  role: Role | null;
  variables: ReadonlyMap<string, string>;
  startsReadOnly: boolean;
  pending: readonly string[];
}>;

/**
 * A line for each host of a list, and for a single host that is in a group.
 *
 * @returns the findings, and the host on which the other checks are worth most
 */
export async function checkHosts(
  servers: readonly DatabaseSettings[],
  consistency: 'before' | null,
): Promise<{ findings: Finding[]; settings: DatabaseSettings }> {
  const hosts = await Promise.all(servers.map(readHost));
  const primary = hosts.find(({ role }) => isPrimary(role));
  const { settings } = primary ?? hosts.find(({ role }) => role !== null) ?? hosts[0]!;
  const hasNoGroup = consistency === 'before' && primary !== undefined
    && !isInGroup(primary.variables);
  const findings = hasNoGroup ? [fault('consistency', NO_GROUP.found, NO_GROUP.remedy)] : [];
  if (hosts.length === 1 && !isInGroup(hosts[0]!.variables)) return { settings, findings };
  findings.push(...hosts.flatMap((host) => checkHost(host, primary)));
  if (areSplit(hosts.flatMap(({ role }) => role ?? []))) {
    findings.push(fault('hosts', 'several hosts take writes and are not of one group',
      NO_PRIMARY_REMEDIES.split));
  }
  if (primary === undefined) {
    const reason = faultOf(hosts.flatMap(({ role }) => role ?? []));
    findings.push(fault('hosts', 'no host is the primary', NO_PRIMARY_REMEDIES[reason]));
  }
  return { settings, findings };
}

async function readHost(settings: DatabaseSettings): Promise<HostFacts> {
  try {
    return await withConnection({ settings }, NO_SETUP_SQL, async (connection) => ({
      settings,
      error: null,
      role: await readRole(connection),
      variables: await readHostVariables(connection),
      startsReadOnly: await startsReadOnly(connection),
      pending: (await readSchemaStatusOn(connection, readSchemaFiles())).pending,
    }));
  } catch (error) {
    const variables = new Map<string, string>();
    return { settings, error, role: null, variables, startsReadOnly: false, pending: [] };
  }
}

/** [variable, whether its value is a risk, what it risks, remedy] */
const GROUP_RISKS: readonly [string, (value: string) => boolean, string, string][] = [
  ['group_replication_consistency', (value) => value === 'EVENTUAL',
    'a new primary answers before it has applied what the old one acknowledged',
    "SET PERSIST group_replication_consistency = 'BEFORE_ON_PRIMARY_FAILOVER'"],
  ['group_replication_member_expel_timeout', (value) => value !== '0',
    'a failover takes about 21 s instead of 7 s',
    'SET PERSIST group_replication_member_expel_timeout = 0, with which a primary that stalls for'
      + ' 5 s loses its role'],
  ['group_replication_unreachable_majority_timeout', (value) => value === '0',
    'a primary that is cut off waits for its group without end',
    'SET PERSIST group_replication_unreachable_majority_timeout = 30'],
];

const REPLICA_WORKERS_MIN = 16;

function checkHost(host: HostFacts, primary: HostFacts | undefined): Finding[] {
  const { settings, error, role, variables, pending } = host;
  const label = hostLabel(settings);
  if (role === null) {
    const { found, remedy } = toConnectionFinding(error);
    return [warn('hosts', `${label}: ${found}`, remedy!)];
  }
  const value = (name: string): string => variables.get(name) ?? '';
  const words = [isPrimary(role) ? 'primary' : describeRole(role), `MySQL ${value('version')}`,
    ...(isInGroup(variables) ? GROUP_RISKS.map(([name]) => `${name} ${value(name)}`) : [])];
  const remarks: [string, string][] = isInGroup(variables) ? GROUP_RISKS
    .filter(([name, isRisk]) => isRisk(value(name)))
    .map(([name, , risk, remedy]) => [`${name} is ${value(name)}: ${risk}`, remedy]) : [];
  if (isInGroup(variables) && !role.seesGroup) {
    remarks.push(['the account may not see the group, so a primary that is cut off is not noticed',
      'GRANT SELECT ON performance_schema.replication_group_members to the account']);
  }
  if (isInGroup(variables) && !host.startsReadOnly) {
    remarks.push(['nothing shows that it starts with super_read_only; without that, a member that'
      + ' starts outside of its group takes writes and cannot join again',
    'SET PERSIST_ONLY super_read_only = ON; the group lifts it on the primary']);
  }
  const workers = value('replica_parallel_workers') || value('slave_parallel_workers');
  if (Number(workers) < REPLICA_WORKERS_MIN) {
    remarks.push([`replica_parallel_workers is ${workers}: a secondary falls behind under load`,
      'SET PERSIST replica_parallel_workers = 64']);
  }
  if (primary !== undefined && primary.variables.get('version') !== value('version')) {
    remarks.push(['its version is not that of the primary', 'upgrade all hosts to one version']);
  }
  if (primary !== undefined && pending.join() !== primary.pending.join()) {
    remarks.push([`its schema is not that of the primary: it lacks ${pending.join(', ')}`,
      'wait until it has caught up, and check its replication']);
  }
  return [ok('hosts', `${label}: ${words.join(', ')}`),
    ...remarks.map(([found, remedy]) => warn('hosts', `${label}: ${found}`, remedy))];
}

async function checkServer(
  target: DoctorTarget,
  connection: Connection,
  findings: Finding[],
): Promise<void> {
  const facts = await readServerFacts(connection);
  const obstacles = await findWriteObstacles(connection);
  const before = target.readHostClock();
  const now = await readServerClock(connection);
  findings.push(
    ...checkSession(facts), checkClocks(before, now, target.readHostClock()),
    ...checkDurability(facts), ...checkWritable(obstacles),
    ...checkGroup(await hasSeveralPrimaries(connection)),
    ...checkCapacity(facts, await readTableBytes(connection), target),
  );
  const schema = await checkSchema(target);
  findings.push(schema);
  if (schema.level === 'fault') return;
  const missing = await findMissingTables(connection);
  findings.push(...checkTables(missing));
  const account = { name: facts.account, database: target.settings.database ?? '' };
  // With an obstacle, or without a table, the trial fails for a reason already reported.
  if (obstacles.length === 0 && missing.length === 0) {
    findings.push(checkWrites(await tryWrites(connection), account));
  }
  findings.push(...checkGrants(await readGrants(connection), account));
}

async function checkSchema({ pool }: DoctorTarget): Promise<Finding> {
  const { pending, conflict } = await readSchemaStatus(pool);
  if (conflict !== null) return fault('schema', conflict.reason, conflict.remedy);
  if (pending.length === 0) return ok('schema', 'every schema file is applied');
  return fault('schema', `the database lacks ${pending.join(', ')}`, RUN_MIGRATE);
}

function checkTables(missing: readonly string[]): Finding[] {
  if (missing.length === 0) return [ok('tables', 'every table exists')];
  return missing.map((table) => fault('tables',
    `${table} is missing, or the account may not see it`,
    'grant SELECT on it, or restore it from a backup'));
}

async function withConnection<T>(
  { settings }: Pick<DoctorTarget, 'settings'>,
  setUpSql: string | undefined,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const connection = await openConnection(settings, setUpSql);
  try {
    return await work(connection);
  } finally {
    connection.destroy();
  }
}

/** A grant on every database, other than USAGE, which only permits to connect. */
const EVERYWHERE = /^GRANT (?!USAGE ON)(.+) ON \*\.\* TO /;

type Account = Readonly<{ name: string; database: string }>;

function checkWrites({ denied, failure }: WriteTrial, account: Account): Finding {
  if (failure !== null) {
    return fault('grants', `a write failed: ${failure.message}`,
      failure.remedy ?? 'check the error log and the disk of MySQL');
  }
  if (denied.length === 0) {
    return ok('grants', 'SELECT, INSERT, UPDATE and DELETE work on every table');
  }
  const list = [...new Set(denied.map(({ privilege }) => privilege))].map((privilege) => {
    const tables = denied.filter((right) => right.privilege === privilege);
    return `${privilege} on ${tables.map(({ table }) => table).join(', ')}`;
  }).join('; ');
  const { database, name } = account;
  return fault('grants', `the account lacks ${list}`,
    `GRANT SELECT, INSERT, UPDATE, DELETE ON \`${database}\`.* TO ${name}`);
}

/** Warns about an account with more privileges than otpd uses. */
function checkGrants(grants: readonly string[], { name }: Account): Finding[] {
  if (!grants.some((grant) => EVERYWHERE.test(grant))) return [];
  return [warn('grants', `${name} has rights on every database of the server`,
    'use an account with rights on the database of otpd only')];
}

const SKEW_MAX_SECONDS = 2;

/**
 * Compares the clocks. otpd uses the clock of the database only, but receivers of signed webhooks
 * and readers of the log compare times with another clock.
 *
 * @param before the clock of this machine before the query
 * @param after the clock of this machine after the query; the duration of the query is no skew
 */
export function checkClocks(before: Instant, database: Instant, after: Instant): Finding {
  const skew = Math.max(before - database, database - after, 0) / MICROSECONDS_PER_SECOND;
  if (skew <= SKEW_MAX_SECONDS) return ok('clock', `within ${SKEW_MAX_SECONDS} s of this machine`);
  const side = database < before ? 'behind' : 'ahead of';
  return warn('clock', `the database is ${skew.toFixed(1)} s ${side} this machine`,
    'synchronize both clocks with NTP: responses and webhooks have the time of the database');
}
