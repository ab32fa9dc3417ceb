/** What is looked at in the database, in order: who cannot connect learns why, and no more. */
import {
  checkDurability, checkReadOnly, checkCapacity, checkServerName, checkSession,
} from './check-server.ts';
import type { ConnectionLimits } from './check-server.ts';
import {
  readGrants, readServerClock, readServerFacts, readServerName, readTableBytes, tryWrites,
} from '../../../db/checks/inspect.ts';
import type { WriteTrial } from '../../../db/checks/inspect.ts';
import { NO_SETUP_SQL, openConnection } from '../../../db/connection.ts';
import type { DatabaseSettings, Connection } from '../../../db/connection.ts';
import { MICROSECONDS_PER_SECOND } from '../../../db/instant.ts';
import type { Instant } from '../../../db/instant.ts';
import { describeNewer, readSchemaFiles, readSchemaStatus } from '../../../db/migrate.ts';
import type { ConnectionPool } from '../../../db/pool.ts';
import { readLayout } from '../../../db/read-layout.ts';
import { layoutOf } from '../../../db/table-layout.ts';
import type { ColumnLayout, Layout, TableLayout } from '../../../db/table-layout.ts';
import { fault, findingOfError, ok, warn } from './finding.ts';
import type { Finding } from './finding.ts';

/** The first file's table is not written by who serves. */
const SCHEMA_TABLE = 'schema_migrations';

/** The database, and what it is held against. */
export type DoctorTarget = ConnectionLimits & Readonly<{
  settings: DatabaseSettings;
  pool: ConnectionPool;
  readHostClock: () => Instant;
}>;

/** Looks at all of it; nothing is changed. What stands in the way is a finding, too. */
export async function checkDatabase(patient: DoctorTarget): Promise<Finding[]> {
  const findings: Finding[] = [];
  try {
    const version = await withSession(patient, NO_SETUP_SQL, readServerName);
    findings.push(ok('connection', 'the server answers'), checkServerName(version));
    if (findings.some(({ level }) => level === 'fault')) return findings;
    await withSession(patient, undefined, (session) => examine(patient, session, findings));
  } catch (error) {
    findings.push(findingOfError(error, patient.settings));
  }
  return findings;
}

async function examine(
  patient: DoctorTarget,
  session: Connection,
  findings: Finding[],
): Promise<void> {
  const facts = await readServerFacts(session);
  const before = patient.readHostClock();
  const now = await readServerClock(session);
  findings.push(
    ...checkSession(facts), checkClocks(before, now, patient.readHostClock()),
    ...checkDurability(facts), checkReadOnly(facts),
    ...checkCapacity(facts, await readTableBytes(session), patient),
  );
  const schema = await checkSchema(patient);
  findings.push(schema);
  if (schema.level === 'fault') return;
  const wanted = layoutOf(readSchemaFiles());
  const tables = checkTables(wanted, await readLayout(session));
  findings.push(...tables);
  wanted.delete(SCHEMA_TABLE);
  const account = { name: facts.account, database: patient.settings.database ?? '' };
  // What a server that is read-only, or a table that is amiss, would refuse has been told.
  if (!facts.isReadOnly && tables.every(({ level }) => level !== 'fault')) {
    findings.push(checkTrial(await tryWrites(session, wanted), account));
  }
  findings.push(...checkGrants(await readGrants(session), account));
}

async function checkSchema({ pool }: DoctorTarget): Promise<Finding> {
  const { pending, isNewer } = await readSchemaStatus(pool);
  if (isNewer) return fault('schema', describeNewer(), 'see README, "Your own MySQL"');
  if (pending.length === 0) return ok('schema', 'every schema file is applied');
  return fault('schema', `the database lacks ${pending.join(', ')}`, 'run: npm run migrate');
}

async function withSession<T>(
  { settings }: DoctorTarget,
  setUpSql: string | undefined,
  work: (session: Connection) => Promise<T>,
): Promise<T> {
  const session = await openConnection(settings, setUpSql);
  try {
    return await work(session);
  } finally {
    session.destroy();
  }
}

/** Compares the tables that should be with those that are. */
export function checkTables(wanted: Layout, found: Layout): Finding[] {
  const findings = [...wanted].flatMap(([name, table]) => {
    const other = found.get(name);
    return other === undefined
      ? [fault('tables', `${name} is missing, or the account may not see it`,
        'grant SELECT on it, or restore it from a backup')]
      : judgeTable(name, table, other);
  });
  if (findings.length > 0) return findings;
  return [ok('tables', `${wanted.size}, with the engine, columns and indexes of the schema files`)];
}

function judgeTable(name: string, wanted: TableLayout, found: TableLayout): Finding[] {
  const findings: Finding[] = [];
  if (found.engine !== wanted.engine) {
    findings.push(fault('tables', `${name} has the engine ${found.engine}`,
      `ALTER TABLE ${name} ENGINE = ${wanted.engine}`));
  }
  for (const [column, layout] of wanted.columns) {
    const is = textOf(found.columns.get(column), layout);
    const should = textOf(layout, layout);
    if (is !== should) {
      findings.push(fault('tables', `${name}.${column} is ${is}, not ${should}`,
        `make it ${should} again, as schema/*.sql has it`));
    }
  }
  for (const [index, columns] of wanted.indexes) {
    const is = found.indexes.get(index);
    if (is === columns) continue;
    findings.push(fault('tables', `the index ${name}.${index} is ${is ?? 'missing'}`,
      `${is === undefined ? '' : 'drop it, then '}${addIndex(name, index, columns)}`));
  }
  return [...findings, ...judgeSurplus(name, wanted, found)];
}

function addIndex(table: string, index: string, columns: string): string {
  const list = columns.replace('UNIQUE ', '');
  const kind = index === 'PRIMARY' ? 'PRIMARY KEY'
    : `${list === columns ? '' : 'UNIQUE '}KEY ${index}`;
  return `ALTER TABLE ${table} ADD ${kind} ${list}`;
}

function judgeSurplus(name: string, wanted: TableLayout, found: TableLayout): Finding[] {
  const columns = [...found.columns.keys()].filter((column) => !wanted.columns.has(column));
  const indexes = [...found.indexes.keys()].filter((index) => !wanted.indexes.has(index));
  if (columns.length + indexes.length === 0) return [];
  const list = [...columns.map((column) => `column ${column}`),
    ...indexes.map((index) => `index ${index}`)].join(', ');
  return [warn('tables', `${name} has more than the schema files make: ${list}`,
    'drop it: every request pays for it, and a migration may fail on it')];
}

/** A collation counts only where one is prescribed. */
function textOf(column: ColumnLayout | undefined, wanted: ColumnLayout): string {
  if (column === undefined) return 'missing';
  const collation = wanted.collation === null ? '' : ` ${column.collation}`;
  return `${column.type}${collation}${column.isNullable ? '' : ' not null'}`;
}

/** All tables of all databases, with more than the right to connect. */
const EVERYWHERE = /^GRANT (?!USAGE ON)(.+) ON \*\.\* TO /;

/** What the account is to do its work with. */
type Account = Readonly<{ name: string; database: string }>;

/** Judges what came of trying. */
function checkTrial({ denied, failure }: WriteTrial, account: Account): Finding {
  if (failure !== null) {
    return fault('grants', `a write failed: ${failure.message}`,
      'see MySQL\'s error log, and its disk');
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

/** Checks whether the account has more rights than it uses. */
function checkGrants(grants: readonly string[], { name }: Account): Finding[] {
  if (!grants.some((grant) => EVERYWHERE.test(grant))) return [];
  return [warn('grants', `${name} has rights on every database of the server`,
    'serve with an account of otpd\'s own, and migrate with that one')];
}

const SKEW_MAX_SECONDS = 2;

/**
 * Judges the difference. otpd goes by the database's clock alone; who reads signed webhooks, or the
 * log, goes by another.
 *
 * @param before this machine's clock when the database was asked for its time
 * @param after the same when the answer was there: the time between is no difference
 */
export function checkClocks(before: Instant, database: Instant, after: Instant): Finding {
  const skew = Math.max(before - database, database - after, 0) / MICROSECONDS_PER_SECOND;
  if (skew <= SKEW_MAX_SECONDS) return ok('clock', `within ${SKEW_MAX_SECONDS} s of this machine`);
  const side = database < before ? 'behind' : 'ahead of';
  return warn('clock', `the database is ${skew.toFixed(1)} s ${side} this machine`,
    'let NTP set both clocks: times in answers and of webhooks are the database\'s');
}
