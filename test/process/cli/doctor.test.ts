/** Doctor on a real MySQL that the tests break in one way after the other. */
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkDatabase, checkHosts } from '../../../src/app/cli/doctor/check-database.ts';
import type { DoctorTarget } from '../../../src/app/cli/doctor/check-database.ts';
import type { Finding } from '../../../src/app/output.ts';
import { readHostClock } from '../../../src/app/log/log.ts';
import { openConnection } from '../../../src/db/connection.ts';
import { readSchemaFiles } from '../../../src/db/migrate.ts';
import { ConnectionPool } from '../../../src/db/pool.ts';
import { createCertificate } from '../../harness/certificate.ts';
import { objectOf, runCommand } from '../../harness/command.ts';
import type { Variables } from '../../harness/command.ts';
import { freePort } from '../../harness/free-port.ts';
import { expectedVersion } from '../../harness/mysql.ts';
import { startDurableServer } from '../../proof/durable-server.ts';
import type { DurableServer } from '../../proof/durable-server.ts';

const ACCOUNT = { user: 'serves', password: `hush-${randomBytes(6).toString('hex')}` };
const SECRET = randomBytes(32).toString('base64');
const WEBHOOK_SECRET = randomBytes(32).toString('base64');

let server: DurableServer;
let pool: ConnectionPool;
let version: Finding;

test.before(async () => {
  server = await startDurableServer();
  const { settings: { database }, database: { query } } = server;
  version = await expectedVersion(server.settings);
  await query(`CREATE USER ${ACCOUNT.user}@localhost IDENTIFIED BY '${ACCOUNT.password}'`);
  await query(`GRANT SELECT, INSERT, UPDATE, DELETE ON ${database}.* TO ${ACCOUNT.user}@localhost`);
  pool = new ConnectionPool(() => openConnection({ ...server.settings, ...ACCOUNT }), 2);
});

test.after(async () => {
  pool.close();
  await server.stop();
});

function targetWith(changes: Partial<DoctorTarget> = {}): DoctorTarget {
  return { settings: { ...server.settings, ...ACCOUNT }, pool, connections: 16, workers: 1,
    readHostClock, ...changes };
}

/** The findings other than ok, without that on the version, which every connection must yield. */
function selectProblems(findings: readonly Finding[]): Finding[] {
  const isConnected = findings.some(({ check, level }) => check === 'connection' && level === 'ok');
  assert.equal(findings.filter(({ check }) => check === 'version'), isConnected ? [version] : []);
  return findings.filter(({ level, check }) => level !== 'ok' && check !== 'version');
}

/** The problems of the database, one line each. */
async function findProblems(changes: Partial<DoctorTarget> = {}): Promise<string[]> {
  const findings = await checkDatabase(targetWith(changes));
  return selectProblems(findings)
    .map(({ level, check, found, remedy }) => `${level} ${check}: ${found}; ${remedy}`);
}

test('doctor finds no fault in a sound database and changes nothing', async () => {
  assert.equal(await findProblems(), []);
  const checks = (await checkDatabase(targetWith())).map(({ check }) => check);
  assert.equal(checks, ['connection', 'version', 'session', 'clock', 'durability', 'writable',
    'connections', 'memory', 'packets', 'schema', 'tables', 'grants']);
  const rows = await server.database.query('SELECT COUNT(*) AS n FROM otps');
  assert.is(Number(rows[0]!.n), 0);
});

const OVERFLOW = readSchemaFiles().find(({ name }) => name === '0003-ip-rate-overflow')!
  .statements[1]!;

/** [what is broken, statements that break it, statements that repair it, finding] */
const BROKEN: [string, string[], string[], RegExp][] = [
  ['an unflushed log', ['SET GLOBAL innodb_flush_log_at_trx_commit = 2'],
    ['SET GLOBAL innodb_flush_log_at_trx_commit = 1'],
    /^fault durability: innodb_flush_log_at_trx_commit is 2: .*; SET PERSIST innodb/],
  ['read_only', ['SET GLOBAL read_only = ON'], ['SET GLOBAL read_only = OFF'],
    /^fault writable: read_only is on; set DB_HOST to the primary/],
  ['super_read_only', ['SET GLOBAL super_read_only = ON'],
    ['SET GLOBAL super_read_only = OFF', 'SET GLOBAL read_only = OFF'],
    /^fault writable: super_read_only is on/],
  ['too few connections', ['SET GLOBAL max_connections = 15'], ['SET GLOBAL max_connections = 300'],
    /^fault connections: DB_CONNECTIONS x WORKERS is 16, max_connections 15; lower/],
  ['small packets', ['SET GLOBAL max_allowed_packet = 1048576'],
    ['SET GLOBAL max_allowed_packet = 67108864'], /^fault packets: max_allowed_packet is 1 MB/],
  ['a pending migration', ['UPDATE schema_migrations SET finished_at = NULL WHERE version = 4'],
    ['UPDATE schema_migrations SET finished_at = NOW(6) WHERE version = 4'],
    /^fault schema: the database lacks 0004-limit-hits; run: npm run migrate \(in /],
  ['a newer database', ["INSERT INTO schema_migrations VALUES (99, 'z', NOW(6), NOW(6))"],
    ['DELETE FROM schema_migrations WHERE version = 99'],
    /^fault schema: the database has schema file z of a newer otpd; run that/],
  ['a database of an earlier 0.1',
    ["UPDATE schema_migrations SET name = '0002-otps' WHERE version = 2"],
    ["UPDATE schema_migrations SET name = '0002-ip-rate-limits' WHERE version = 2"],
    /^fault schema: .* file 0002-otps from before the first release; use a new database:/],
];

for (const [what, breaking, repairing, pattern] of BROKEN) {
  test(`doctor reports ${what} as one finding with its remedy`, async () => {
    for (const sql of breaking) await server.database.query(sql);
    try {
      const found = await findProblems();
      assert.is(found.length, 1, found.join('\n'));
      assert.match(found[0]!, pattern);
    } finally {
      for (const sql of repairing) await server.database.query(sql);
    }
    assert.equal(await findProblems(), []);
  });
}

test('doctor names a missing table', async () => {
  await server.database.query('DROP TABLE ip_rate_overflow');
  const found = await findProblems();
  await server.database.query(OVERFLOW);
  assert.is(found.length, 1);
  assert.match(found[0]!, /^fault tables: ip_rate_overflow is missing/);
  assert.equal(await findProblems(), []);
});

test('doctor names the missing rights and their tables', async () => {
  const { database } = server.settings;
  const { query } = server.database;
  const of = `ON ${database}.* FROM ${ACCOUNT.user}@localhost`;
  const to = of.replace('FROM', 'TO');
  await query(`REVOKE DELETE, UPDATE ${of}`);
  const [several, ...others] = await findProblems();
  assert.equal(others, []);
  const [, updated, deleted] = /^fault grants: .* lacks UPDATE on (.*); DELETE on (.*); GRANT /
    .exec(several!)!;
  const all = await query(`SELECT table_name AS name FROM information_schema.tables
    WHERE table_schema = ? AND table_name <> 'schema_migrations' ORDER BY name`, [database]);
  for (const list of [updated, deleted]) {
    assert.equal(list!.split(', ').sort(), all.map(({ name }) => name));
  }
  assert.match(several!,
    `GRANT SELECT, INSERT, UPDATE, DELETE ON \`${database}\`.* TO 'serves'@'localhost'`);
  const tables = ['otps', 'ip_rate_limits', 'ip_rate_overflow', 'idempotency_keys', 'limit_hits',
    'wrong_counts', 'write_checks', 'device_revocations'];
  for (const table of tables) {
    await query(`GRANT DELETE, UPDATE ${to.replace('.*', `.${table}`)}`);
  }
  await query(`GRANT UPDATE ${to.replace('.*', '.outbox')}`);
  assert.match((await findProblems())[0]!, /the account lacks DELETE on outbox; GRANT/);
  await query(`GRANT DELETE, UPDATE ${to}`);
  assert.equal(await findProblems(), []);
});

test('doctor warns about an account with rights on every database', async () => {
  const { settings } = server;
  assert.match((await findProblems({ settings })).join(), /^warn grants: 'root'@'localhost' has/);
});

test('doctor warns about a clock that is 30 s away', async () => {
  const found = await findProblems({ readHostClock: () => readHostClock() + 30_500_000 });
  assert.match(found.join(),
    /^warn clock: the database is \d\d\.\d s behind this machine; synchronize/);
});

test('doctor says why it cannot connect', async () => {
  const { settings } = targetWith();
  const findingWith = async (changes: object): Promise<string> =>
    (await findProblems({ settings: { ...settings, ...changes } })).join('\n');
  assert.match(await findingWith({ password: 'x' }),
    /^fault connection: .*ER_ACCESS_DENIED_ERROR; check DB_USER and DB_PASSWORD, and/);
  assert.match(await findingWith({ user: 'root', password: '', database: 'otpd_none' }),
    /^fault connection: .*ER_BAD_DB_ERROR; run: npm run migrate \(in production: /);
  assert.match(await findingWith({ socketPath: '/nowhere' }),
    /^fault connection: .*ENOENT; check that MySQL 8\.0\.19 or later answers at the socket DB_S/);
  assert.match(await findingWith({ socketPath: null, host: '127.0.0.1', port: 1 }),
    /^fault connection: .*ECONNREFUSED; .* at DB_HOST and DB_PORT$/);
});

function variables(changes: Variables = {}): Variables {
  return { DB_SOCKET: server.settings.socketPath!, DB_NAME: server.settings.database!,
    DB_USER: ACCOUNT.user, DB_PASSWORD: ACCOUNT.password, OTP_SECRETS: `k7:${SECRET}`,
    DELIVERY: 'webhook', WEBHOOK_URL: 'https://example.com/token-in-path',
    WEBHOOK_SECRETS: `whsec_${WEBHOOK_SECRET}`, TRUSTED_PROXIES: '127.0.0.1', ...changes };
}

const HIDDEN = [ACCOUNT.password, SECRET, WEBHOOK_SECRET, 'token-in-path'];

/** The exit code and the findings, without the one about the Node.js that runs the tests. */
async function findingsOf(changes: Variables): Promise<[number | null, Finding[]]> {
  const ended = await runCommand(['doctor'], changes);
  for (const hidden of HIDDEN) assert.not.ok((ended.out + ended.err).includes(hidden));
  const [node, ...findings] = objectOf(ended).findings as Finding[];
  assert.match(node!.found, `Node.js ${process.versions.node}`);
  return [ended.status, findings];
}

test('doctor exits with 0 without a fault and prints an object, or text with --text', async () => {
  const ended = await runCommand(['doctor'], variables());
  const { outcome, faults, warnings, findings } = objectOf(ended);
  const [node, callers, ...others] = findings as Finding[];
  const count = [node!, version].filter(({ level }) => level === 'warn').length;
  assert.equal([ended.status, outcome, faults, warnings], [0, count > 0 ? 'warn' : 'ok', 0, count]);
  assert.equal(node!.check, 'node');
  assert.equal(selectProblems(others), []);
  assert.equal(callers, { level: 'ok', check: 'callers',
    found: 'TRUSTED_PROXIES is set; only this machine can connect', remedy: null });
  const text = await runCommand(['doctor', '--text'], variables({ TRUSTED_PROXIES: '' }));
  assert.is(text.status, 0);
  assert.match(text.out, /^(ok {5}|warn {3})node {11}Node\.js \d/);
  assert.match(text.out, /\nwarn {3}callers {8}without TRUSTED_PROXIES and .*; name the proxy/);
  assert.match(text.out, /\nok {5}secrets {8}1 configured; new codes use k7\n/);
  const total = count === 0 ? '1 warning' : `${count + 1} warnings`;
  assert.ok(text.out.endsWith(`\nno faults, ${total}\n`), text.out);
  for (const hidden of HIDDEN) assert.not.ok((ended.out + text.out).includes(hidden));
});

test('doctor exits with 1 for a fault of the database', async () => {
  await server.database.query('SET GLOBAL innodb_flush_log_at_trx_commit = 0');
  const [status, findings] = await findingsOf(variables());
  await server.database.query('SET GLOBAL innodb_flush_log_at_trx_commit = 1');
  assert.is(status, 1);
  assert.equal(findings.filter(({ level }) => level === 'fault').map(({ check }) => check),
    ['durability']);
});

test('each configuration error is a finding that hides no independent check', async () => {
  const [status, findings] = await findingsOf(variables({ WEBHOOK_SECRETS: 'whsec_short',
    MESSAGE_DOMAIN: 'https://x' }));
  assert.is(status, 1);
  const errors = findings.filter(({ level }) => level === 'fault');
  assert.equal(errors.map(({ check }) => check), ['configuration', 'configuration']);
  assert.match(errors.map(({ found }) => found).join('\n'), /WEBHOOK_SECRETS.*\nMESSAGE_DOMAIN/);
  assert.ok(findings.some(({ check, level }) => check === 'grants' && level === 'ok'));
  const [, common] = await findingsOf(variables({ OTP_SECRETS: 'k:c2hvcnQ=', POLICY_FILE: '/no' }));
  assert.equal(common.map(({ level, found }) => [level, /^\w+/.exec(found)![0]]),
    [['fault', 'OTP_SECRETS'], ['fault', 'POLICY_FILE'], ['fault', 'the']]);
  const [, email] = await findingsOf(variables({ DELIVERY: 'email', SMTP_URL: 'smtp://localhost',
    EMAIL_FROM: 'no-reply@example.com' }));
  assert.match(email.find(({ level }) => level === 'fault')!.found, /needs nodemailer: npm i node/);
});

test('doctor warns about a slip in a name, and finds a key that others can read', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-doctor-'));
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  const pair = createCertificate();
  writeFileSync(cert, pair.cert);
  writeFileSync(key, pair.key);
  chmodSync(key, 0o644);
  const [status, findings] = await findingsOf(variables({ DELIVRY: 'sms', TLS_CERT: cert,
    TLS_KEY: key }));
  rmSync(folder, { recursive: true });
  assert.is(status, 1);
  assert.equal(selectProblems(findings)
    .map(({ level, found, remedy }) => [level, found, remedy]), [
    ['warn', '"DELIVRY" is not a variable of otpd', 'did you mean DELIVERY?'],
    ['fault', `TLS_KEY ${key} has mode 644: other accounts of this machine can read it`,
      `chmod 600 ${key}`],
  ]);
});

test('a missing database is one fault that names DB_HOST and DB_SOCKET', async () => {
  const [status, findings] = await findingsOf({});
  assert.is(status, 1);
  assert.equal(findings.map(({ level, check }) => [level, check]),
    [['fault', 'configuration'], ['fault', 'database']]);
  assert.is(findings[1]!.found, 'the database was not checked');
  assert.match(findings[0]!.found, /^DB_HOST or DB_SOCKET must be set/);
});

test('doctor warns about an account with too few connections of its own', async () => {
  const account = `${ACCOUNT.user}@localhost`;
  await server.database.query(`ALTER USER ${account} WITH MAX_USER_CONNECTIONS 4`);
  try {
    const [found, ...others] = await findProblems();
    assert.equal(others, []);
    assert.match(found!, /^warn connections: the account may have 4 .*MAX_USER_CONNECTIONS/);
    assert.match(found!, /DB_CONNECTIONS x WORKERS is 16.*; ALTER USER/);
    assert.equal(await findProblems({ connections: 2 }), []);
  } finally {
    await server.database.query(`ALTER USER ${account} WITH MAX_USER_CONNECTIONS 0`);
  }
});

test('doctor warns about a group with several primaries', async () => {
  const { query } = server.database;
  await query("INSTALL PLUGIN group_replication SONAME 'group_replication.so'");
  try {
    assert.equal(await findProblems(), []);
    await query('SET GLOBAL group_replication_single_primary_mode = OFF');
    assert.match((await findProblems()).join('\n'),
      /^warn group: group_replication_single_primary_mode is OFF: .*; let every otpd write to/);
  } finally {
    await query('UNINSTALL PLUGIN group_replication');
  }
});

test('doctor describes a member of a group, and warns of what spoils its failover', async () => {
  const { query } = server.database;
  const settings = { ...server.settings, ...ACCOUNT };
  const warnings = async (): Promise<string> => (await checkHosts([settings], null)).findings
    .filter(({ level }) => level === 'warn').map(({ found }) => found).join('\n');
  assert.equal((await checkHosts([settings], null)).findings, []);
  const [noGroup] = (await checkHosts([settings], 'before')).findings;
  assert.match(noGroup!.found, /^DB_CONSISTENCY is before, and the server is in no group/);
  await query("INSTALL PLUGIN group_replication SONAME 'group_replication.so'");
  const grant = 'SELECT ON performance_schema.replication_group_members';
  try {
    await query("SET GLOBAL group_replication_group_name = '6f8d2b9e-3c41-4f0a-9a57-1d2e3f405162'");
    const { findings } = await checkHosts([settings], 'before');
    assert.is(findings[0]!.level, 'ok');
    assert.match(findings[0]!.found, /: primary, MySQL .*, group_replication_consistency \w+, /);
    assert.match(await warnings(), /member_expel_timeout is 5: a failover takes about 21 s/);
    assert.match(await warnings(), /unreachable_majority_timeout is 0: a primary that is cut off/);
    assert.match(await warnings(), /nothing shows that it starts with super_read_only/);
    assert.match(await warnings(), /replica_parallel_workers is 4: a secondary falls behind/);
    assert.match(await warnings(), /the account may not see the group/);
    await query(`GRANT ${grant} TO ${ACCOUNT.user}@localhost`);
    await query("SET GLOBAL group_replication_consistency = 'EVENTUAL'");
    await query('SET GLOBAL group_replication_member_expel_timeout = 0');
    await query('SET PERSIST_ONLY super_read_only = ON');
    assert.not.match(await warnings(), /may not see|member_expel_timeout|super_read_only/);
    assert.match(await warnings(), /consistency is EVENTUAL: a new primary answers before it has/);
  } finally {
    await query('RESET PERSIST IF EXISTS super_read_only');
    await query('SET GLOBAL group_replication_consistency = DEFAULT');
    await query('UNINSTALL PLUGIN group_replication');
    await query(`REVOKE IF EXISTS ${grant} FROM ${ACCOUNT.user}@localhost`);
  }
});

test('the remedy when no host answers is not that for replicas', async () => {
  const host = { ...server.settings, socketPath: null, host: '127.0.0.1', port: await freePort() };
  const { findings } = await checkHosts([host, { ...host, host: 'localhost' }], null);
  assert.equal(findings.map(({ level, found }) => [level, found.replace(/^\S+:\d+: /, '')]), [
    ['warn', 'cannot connect to the database: ECONNREFUSED'],
    ['warn', 'cannot connect to the database: ECONNREFUSED'],
    ['fault', 'no host is the primary'],
  ]);
  assert.match(findings.at(-1)!.remedy!, /^check that MySQL .* answers at the hosts of DB_HOST/);
});

test('doctor reports a binlog that is not synced, or that excludes every write', async () => {
  await server.restartWith([`--log-bin=${server.path('mysql/binlog')}`, '--server-id=1'],
    ['--skip-log-bin']);
  try {
    const { query } = server.database;
    assert.equal(await findProblems(), []);
    await query('SET GLOBAL sync_binlog = 0');
    assert.match((await findProblems()).join(),
      /^fault durability: sync_binlog is 0: a crash loses .*; SET PERSIST sync_binlog = 1$/);
    await query('SET GLOBAL sync_binlog = 1');
    await query('SET GLOBAL binlog_format = STATEMENT');
    assert.match((await findProblems()).join('\n'),
      /^fault binlog_format: binlog_format is STATEMENT.*; SET PERSIST binlog_format = ROW$/);
    await query('SET GLOBAL binlog_format = ROW');
    assert.equal(await findProblems(), []);
  } finally {
    await server.start();
  }
});

test.run();
