/** What is looked at in the database, in order: who cannot connect learns why, and no more. */
import type { Instant } from '../../../db/instant.ts';
import { describeNewer, readSchemaStatus } from '../../../db/migrate.ts';
import type { SessionPool } from '../../../db/pool.ts';
import { readLayout } from '../../../db/read-layout.ts';
import { readSchemaFiles } from '../../../db/schema-files.ts';
import {
  readGrants, readServerClock, readServerFacts, readServerName, readTableBytes,
} from '../../../db/server-facts.ts';
import { NO_SETUP_SQL, openSession } from '../../../db/session.ts';
import type { DatabaseSettings, Session } from '../../../db/session.ts';
import { layoutOf } from '../../../db/table-layout.ts';
import { tryWrites } from '../../../db/try-writes.ts';
import { judgeClocks } from './clocks.ts';
import { judgeFailure } from './failure.ts';
import { fault, ok } from './finding.ts';
import type { Finding } from './finding.ts';
import { judgeGrants, judgeTrial } from './rights.ts';
import {
  judgeDurability, judgeReadOnly, judgeRoom, judgeServerName, judgeSession,
} from './server.ts';
import type { Connections } from './server.ts';
import { judgeTables } from './tables.ts';

/** The first file's table is not written by who serves. */
const SCHEMA_TABLE = 'schema_migrations';

/** The database, and what it is held against. */
export type Patient = Connections & Readonly<{
  settings: DatabaseSettings;
  pool: SessionPool;
  isPrivate: boolean;
  readHostClock: () => Instant;
}>;

/** Looks at all of it; nothing is changed. What stands in the way is a finding, too. */
export async function examineDatabase(patient: Patient): Promise<Finding[]> {
  const findings: Finding[] = [];
  try {
    const version = await withSession(patient, NO_SETUP_SQL, readServerName);
    findings.push(ok('connection', 'the server answers'), judgeServerName(version));
    if (findings.some(({ level }) => level === 'fault')) return findings;
    await withSession(patient, undefined, (session) => examine(patient, session, findings));
  } catch (error) {
    findings.push(judgeFailure(error, patient.settings));
  }
  return findings;
}

async function examine(patient: Patient, session: Session, findings: Finding[]): Promise<void> {
  const facts = await readServerFacts(session);
  const before = patient.readHostClock();
  const now = await readServerClock(session);
  findings.push(
    ...judgeSession(facts), judgeClocks(before, now, patient.readHostClock()),
    ...judgeDurability(facts), judgeReadOnly(facts),
    ...judgeRoom(facts, await readTableBytes(session), patient),
  );
  const schema = await examineSchema(patient);
  findings.push(schema);
  if (schema.level === 'fault') return;
  const wanted = layoutOf(readSchemaFiles());
  const tables = judgeTables(wanted, await readLayout(session));
  findings.push(...tables);
  wanted.delete(SCHEMA_TABLE);
  const { settings: { database }, isPrivate } = patient;
  const account = { name: facts.account, database: database ?? '', isPrivate };
  // What a server that is read-only, or a table that is amiss, would refuse has been told.
  if (!facts.isReadOnly && tables.every(({ level }) => level !== 'fault')) {
    findings.push(judgeTrial(await tryWrites(session, wanted), account));
  }
  findings.push(...judgeGrants(await readGrants(session), account));
}

async function examineSchema({ pool }: Patient): Promise<Finding> {
  const { pending, isNewer } = await readSchemaStatus(pool);
  if (isNewer) return fault('schema', describeNewer(), 'see README, "Your own MySQL"');
  if (pending.length === 0) return ok('schema', 'every schema file is applied');
  return fault('schema', `the database lacks ${pending.join(', ')}`, 'run: npm run migrate');
}

async function withSession<T>(
  { settings }: Patient,
  setUpSql: string | undefined,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const session = await openSession(settings, setUpSql);
  try {
    return await work(session);
  } finally {
    session.destroy();
  }
}
