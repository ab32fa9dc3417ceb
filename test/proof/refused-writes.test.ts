/**
 * A MySQL that answers reads and refuses or delays writes: the start and `migrate` say why in one
 * line, requests are 503, `/readyz` names the check, and the end of the fault ends it all.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openConnection } from '../../src/db/connection.ts';
import { closeClient, post } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { runCommand, variablesFor } from '../harness/command.ts';
import type { Variables } from '../harness/command.ts';
import { startOtpd } from '../harness/otpd.ts';
import type { Otpd } from '../harness/otpd.ts';
import { eventually, promptly } from '../harness/waiting.ts';
import { startDurableServer } from './durable-server.ts';
import type { DurableServer } from './durable-server.ts';

let server: DurableServer;
let otpd: Otpd | undefined;

function query(sql: string): Promise<readonly Record<string, unknown>[]> {
  return server.database.query(sql);
}

/** The variables of an account that may do what `serve` needs, and no more. */
function servingAccount(more: Variables = {}): Variables {
  const { socketPath, database } = server.settings;
  return variablesFor(database!, { DB_SOCKET: socketPath!, DB_USER: 'serves', ...more });
}

test.before(async () => {
  server = await startDurableServer();
  await server.restartWith([`--log-bin=${server.path('mysql/binlog')}`, '--server-id=1'],
    ['--skip-log-bin']);
  const { database } = server.settings;
  await query('CREATE USER serves@localhost');
  await query(`GRANT SELECT, INSERT, UPDATE, DELETE ON ${database}.* TO serves@localhost`);
  await query('CREATE USER reader@localhost');
  await query(`GRANT SELECT ON ${database}.* TO reader@localhost`);
  otpd = await startOtpd(servingAccount());
});
test.after(async () => {
  closeClient();
  otpd?.stop();
  await otpd?.ended;
  await server.stop();
});

let keys = 0;

function request(): Promise<Reply> {
  keys += 1;
  const body = { user_id: `U${keys}`, purpose: 'login' };
  return promptly(() => post({ port: otpd!.port, path: '/otp/request', key: `k${keys}`, body }));
}

async function readiness(): Promise<string> {
  const reply = await promptly(() => fetch(`http://127.0.0.1:${otpd!.adminPort}/readyz`));
  return `${reply.status} ${await reply.text()}`;
}

const READY = '200 {"status":"ready"}';

async function becomes(expected: string): Promise<void> {
  await eventually(expected, async () => (await readiness()) === expected);
}

function unready(check: string): string {
  return `503 ${JSON.stringify({ error: 'not_ready', failed: [check] })}`;
}

/** Makes otpd open new connections, which get the settings in force. */
async function closeConnections(): Promise<void> {
  const rows = await query(`SELECT id FROM information_schema.processlist WHERE user = 'serves'`);
  for (const row of rows) await query(`KILL ${row.ID ?? row.id}`).catch(() => {});
}

async function assertUnavailable(): Promise<void> {
  const { status, headers, text } = await request();
  assert.equal([status, text], [503, '{"error":"unavailable"}']);
  assert.match(String(headers['retry-after']), /^\d+$/);
}

/** Each command, which must end with 1 and the one line. */
async function assertRefused(
  commands: readonly string[],
  variables: Variables,
  line: RegExp,
): Promise<void> {
  for (const command of commands) {
    const { status, err } = await runCommand([command], { PORT: '0', ...variables });
    assert.is(status, 1, command);
    assert.match(err, line, command);
    assert.is(err.trimEnd().split('\n').length, 1, err);
  }
}

test('binlog_format=STATEMENT is named at the start, and is 503 while otpd runs', async () => {
  await becomes(READY);
  await query('SET GLOBAL binlog_format = STATEMENT');
  try {
    await assertRefused(['serve', 'migrate'], servingAccount(),
      /^otpd: binlog_format is STATEMENT.*; SET PERSIST binlog_format = ROW\n$/);
    await becomes(unready('binlog_format'));
    await closeConnections();
    await assertUnavailable();
  } finally {
    await query('SET GLOBAL binlog_format = ROW');
  }
  await becomes(READY);
  await eventually('a request succeeds', async () => (await request()).status === 201);
});

test('a lock on all tables makes otpd not ready until it ends', async () => {
  const holder = await openConnection({ ...server.settings, database: null });
  try {
    // A backup lock lets writes pass.
    await holder.run('lock', 'LOCK INSTANCE FOR BACKUP', []);
    await becomes(READY);
    await holder.run('unlock', 'UNLOCK INSTANCE', []);
    await holder.run('lock', 'FLUSH TABLES WITH READ LOCK', []);
    await becomes(unready('writes'));
    await assertUnavailable();
    await becomes(unready('writes'));
    await holder.run('unlock', 'UNLOCK TABLES', []);
  } finally {
    holder.destroy();
  }
  await becomes(READY);
  await eventually('a request succeeds', async () => (await request()).status === 201);
});

test('a read-only server is named at the start', async () => {
  await query('SET GLOBAL super_read_only = ON');
  try {
    await assertRefused(['serve'], servingAccount(),
      /^otpd: super_read_only is on; set DB_HOST to the primary, or SET PERSIST read_only = OFF/);
    await becomes(unready('read_only'));
  } finally {
    await query('SET GLOBAL super_read_only = OFF');
    await query('SET GLOBAL read_only = OFF');
  }
  await becomes(READY);
});

test('a right that is taken away is 503, named at the start, and comes back', async () => {
  const right = `INSERT ON ${server.settings.database}.*`;
  await query(`REVOKE ${right} FROM serves@localhost`);
  try {
    // A connection keeps the rights on its database for as long as it lives.
    await closeConnections();
    await becomes(unready('writes'));
    await assertUnavailable();
    await assertRefused(['serve'], servingAccount(),
      /^otpd: check\.write: ER_TABLEACCESS_DENIED_ERROR; grant the account SELECT, INSERT/);
  } finally {
    await query(`GRANT ${right} TO serves@localhost`);
  }
  await becomes(READY);
  await eventually('a request succeeds', async () => (await request()).status === 201);
});

test('checks leave no row, and processes that check do not wait for each other', async () => {
  const holder = await openConnection(server.settings);
  await holder.run('insert', 'INSERT INTO write_checks VALUES (CONNECTION_ID())', []);
  await becomes(READY);
  holder.destroy();
  await eventually('no row is left', async () =>
    (await query('SELECT 1 FROM write_checks')).length === 0);
});

test('migrate with nothing to do only reads', async () => {
  const isUpToDate = async (): Promise<void> => {
    const ended = await runCommand(['migrate'], servingAccount({ DB_USER: 'reader' }));
    assert.equal([ended.status, ended.out, ended.err], [0, 'the database is up to date\n', '']);
  };
  await isUpToDate();
  await query('SET GLOBAL super_read_only = ON');
  try {
    await isUpToDate();
  } finally {
    await query('SET GLOBAL super_read_only = OFF');
    await query('SET GLOBAL read_only = OFF');
  }
});

test('migrate names the account and the right that it lacks', async () => {
  const { database } = server.settings;
  const last = 'version = (SELECT * FROM (SELECT MAX(version) FROM schema_migrations) AS newest)';
  await query(`UPDATE schema_migrations SET finished_at = NULL WHERE ${last}`);
  try {
    await assertRefused(['migrate'], servingAccount(),
      /^otpd: the account serves@localhost lacks CREATE on the database, which schema\/.*\.sql/);
    await query('SET GLOBAL super_read_only = ON');
    await assertRefused(['migrate'], servingAccount({ DB_USER: 'root' }),
      /^otpd: statement 1 of schema\/.*: ER_OPTION_PREVENTS_STATEMENT; set DB_HOST to the pri/);
  } finally {
    await query('SET GLOBAL super_read_only = OFF');
    await query('SET GLOBAL read_only = OFF');
    await query(`UPDATE schema_migrations SET finished_at = NOW(6) WHERE ${last}`);
  }
  await query(`GRANT SELECT ON \`${database}\\_none\`.* TO serves@localhost`);
  await assertRefused(['migrate'], servingAccount({ DB_NAME: `${database}_none` }),
    /^otpd: the account serves@localhost lacks CREATE on the database, which creating otpd_test/);
});

test('every command that cannot reach or use the database prints one line', async () => {
  const commands = [['show', 'U1'], ['unlock', 'U1', 'login'], ['cancel', 'ab'.repeat(16)],
    ['serve'], ['migrate']];
  const wrong = [{ DB_SOCKET: '/nowhere' }, { DB_NAME: 'otpd_test_none', DB_USER: 'root' },
    { DB_PASSWORD: 'wrong' }];
  for (const variables of wrong) {
    for (const command of commands) {
      if (command[0] === 'migrate' && 'DB_NAME' in variables) continue;
      const { status, err } = await runCommand(command,
        { PORT: '0', ...servingAccount(variables) });
      assert.is(status, 1);
      assert.match(err, /^otpd: cannot connect to the database: [A-Z_]+; [^\n]+\n$/);
    }
  }
});

test.run();
