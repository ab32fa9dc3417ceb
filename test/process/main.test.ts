/** serve, migrate, unlock and key as real processes on a running MySQL. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openConnection } from '../../src/db/connection.ts';
import { closeClient, post } from '../harness/client.ts';
import { newVariables, variablesFor } from '../harness/command.ts';
import { newDatabaseName, serverSocket, settingsFor } from '../harness/database.ts';
import { freePort } from '../harness/free-port.ts';
import { answer, startHttpSink } from '../harness/http-sink.ts';
import { newApiClients } from '../harness/api-clients.ts';
import { codesIn, withoutLog } from '../harness/printed.ts';
import { endAll, finish, portOf, request, start, until, withFolder } from '../harness/run.ts';
import type { Run } from '../harness/run.ts';
import { recordCode } from '../harness/leak-recorder.ts';

test('several workers share one port, one limit and one stop', async () => {
  const run = start(['serve'], await newVariables({ WORKERS: '3' }));
  const port = await portOf(run);
  const replies = await Promise.all(Array.from({ length: 12 }, (_, index) =>
    request(port, 'U1', `k${index}`)));
  assert.equal(replies.map(({ status }) => status).filter((status) => status === 201).length, 3);
  await until(run, () => codesIn(run.output()).length === 3);
  run.child.kill('SIGTERM');
  assert.is(await finish(run), 0);
  assert.match(withoutLog(run.output()), /stopped\n$/);
});

test('a port in use is one clear error', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address() as AddressInfo;
  // The port is tried before the database, which is out of reach here.
  for (const name of ['PORT', 'ADMIN_PORT']) {
    const run = start(['serve'], await newVariables({ [name]: String(port), DB_SOCKET: '/gone' }));
    assert.is(await finish(run), 1);
    const other = name === 'PORT' ? '' : 'PORT or ';
    assert.is(run.output(), `otpd: ${name}: 127.0.0.1:${port} cannot be used (EADDRINUSE); `
      + `${other}another process listens there; stop it or set ${name}\n`);
  }
  const run = start(['serve'], await newVariables({ HOST: '192.0.2.1' }));
  assert.is(await finish(run), 1);
  assert.match(run.output(), new RegExp('^otpd: PORT: 192\\.0\\.2\\.1:0 cannot be used'
    + ' \\(EADDRNOTAVAIL\\); set PORT, or HOST to an address of this machine$', 'm'));
  assert.not.match(run.output(), /\n\s+at /);
  taken.close();
});

test('one port for both listeners is a clear error', async () => {
  const port = String(await freePort());
  const variables = { PORT: port, ADMIN_PORT: port, DB_SOCKET: '/gone' };
  const run = start(['serve'], await newVariables(variables));
  assert.is(await finish(run), 1);
  assert.is(run.output(), `otpd: ADMIN_PORT: 127.0.0.1:${port} cannot be used (EADDRINUSE); `
    + 'PORT or another process listens there; stop it or set ADMIN_PORT\n');
});

test('serve names a variable that is nearly one of its own', async () => {
  const run = start(['serve'], await newVariables({ DELIVRY: 'sms', WORKERS: '2' }));
  await portOf(run);
  run.child.kill('SIGTERM');
  assert.is(await finish(run), 0);
  assert.equal(run.output().match(/^otpd: .*$/gm),
    ['otpd: "DELIVRY" is not a variable of otpd; did you mean DELIVERY?']);
});

function ownServer(database: string, user = 'root', password = ''): object {
  const secrets = `k1:${randomBytes(32).toString('base64')}`;
  return { DB_SOCKET: serverSocket(), DB_USER: user, DB_PASSWORD: password, DB_NAME: database,
    OTP_SECRETS: secrets };
}

async function asRoot(...statements: string[]): Promise<void> {
  const session = await openConnection(settingsFor(null));
  for (const sql of statements) await session.run('test', sql, []);
  session.destroy();
}

test('serve refuses pending migrations by name, and runs after migrate', async () => {
  const name = newDatabaseName();
  const owner = ownServer(name);
  const unmade = start(['serve'], owner);
  assert.is(await finish(unmade), 1);
  assert.match(unmade.output(), /ER_BAD_DB_ERROR/);
  await asRoot(`CREATE DATABASE ${name}`);
  const refused = start(['serve'], owner);
  assert.is(await finish(refused), 1);
  assert.match(refused.output(), new RegExp('lacks 0001-schema-migrations.*\nrun: npm run migrate'
    + ' \\(in production: node dist/main\\.js migrate\\)$', 'm'));

  const migrated = start(['migrate'], owner);
  assert.is(await finish(migrated), 0);
  assert.match(migrated.output(), /schema files applied/);
  const again = start(['migrate'], owner);
  assert.is(await finish(again), 0);
  assert.match(again.output(), /up to date/);

  const user = `u${randomBytes(4).toString('hex')}`;
  await asRoot(`CREATE USER ${user}@localhost IDENTIFIED BY 'pass'`,
    `GRANT SELECT, INSERT, UPDATE, DELETE ON ${name}.* TO ${user}@localhost`);
  const run = start(['serve'], ownServer(name, user, 'pass'));
  const port = await portOf(run);
  assert.is((await request(port, 'U1', 'a')).status, 201);
  const [code] = await until(run, () => codesIn(run.output()).length > 0 && codesIn(run.output()));
  const wrong = String((Number(code) + 1) % 1_000_000).padStart(6, '0');
  const body = { user_id: 'U1', purpose: 'login', code: wrong };
  const guess = { port, path: '/otp/verify', body };
  assert.equal((await Promise.all([post(guess), post(guess), post(guess)]))
    .map(({ status }) => status).sort(), [401, 401, 429]);

  const unlocked = start(['unlock', 'U1', 'login'], owner);
  assert.is(await finish(unlocked), 0);
  const unknown = start(['unlock', 'nobody', 'login'], owner);
  assert.is(await finish(unknown), 1);
  assert.match(unknown.output(), /"outcome":"unknown"/);
  assert.is((await request(port, 'U1', 'b')).status, 201);
  run.child.kill('SIGTERM');
  assert.is(await finish(run), 0);

  const schema = `${name}.schema_migrations`;
  for (const [sql, pattern] of [
    [`INSERT INTO ${schema} VALUES (99, 'later', NOW(6), NOW(6))`, /file later of a newer otpd/],
    [`UPDATE ${schema} SET name = '0002-otps' WHERE version = 2`,
      /schema file 0002-otps from before the first release\nuse a new database/],
  ] as const) {
    await asRoot(sql, 'COMMIT');
    for (const command of ['serve', 'migrate']) {
      const run = start([command], owner);
      assert.is(await finish(run), 1);
      assert.match(run.output(), pattern);
    }
  }
});

test('a wrong password, variable, command or argument is one clear message', async () => {
  const denied = start(['serve'], ownServer(newDatabaseName(), 'nobody', 'x'));
  assert.is(await finish(denied), 1);
  assert.match(denied.output(), /^otpd: cannot connect to the database: .*ER_ACCESS_DENIED/m);
  const errors = start(['serve'], { DB_HOST: 'h', PORT: 'x' });
  assert.is(await finish(errors), 1);
  assert.match(errors.output(), /DB_USER must be set[^]*OTP_SECRETS must be set[^]*PORT must be/);
  const unknown = start(['sevre'], {});
  assert.is(await finish(unknown), 2);
  assert.match(unknown.output(), /usage: otpd COMMAND/);
  const bare = start(['unlock'], ownServer(newDatabaseName()));
  assert.is(await finish(bare), 2);
  assert.match(bare.output(), /usage: otpd COMMAND/);
  const help = start([], {});
  assert.is(await finish(help), 0);
});

test('key new needs no configuration, and its key is accepted', async () => {
  const broken = { DB_HOST: 'h', PORT: 'x', API_KEYS: 'junk' };
  const made = start(['key', 'new', 'app1'], broken);
  assert.is(await finish(made), 0);
  const lines = /^key: (otpd_\S{43})\nAPI_KEYS entry: (app1:request\+verify\+read:[0-9a-f]{64})\n$/;
  const [, key, entry] = lines.exec(made.output())!;
  const json = start(['key', 'new', '--json', 'app2', 'read'], broken);
  assert.is(await finish(json), 0);
  const other = JSON.parse(json.output()) as Record<string, unknown>;
  assert.equal(Object.keys(other), ['name', 'scopes', 'key', 'entry']);
  assert.equal([other.name, other.scopes], ['app2', ['read']]);
  assert.is.not(other.key, key);
  const limits = ['purposes=login+two%20words', 'not-after=2030-12-31'];
  const limited = start(['key', 'new', 'app3', ...limits], broken);
  assert.is(await finish(limited), 0);
  assert.match(limited.output(), `:${limits.join(':')}\n`);
  for (const wrong of [['key'], ['key', 'old', 'a'], ['key', 'new', 'a', 'not-after=2030-02-30'],
    ['key', 'new', 'a', 'purposes=a,b'], ['key', 'new', 'a', 'purposes=a', 'read'],
    ['key', 'new'], ['key', 'new', '-h'],
    ['key', 'new', 'a', 'read', 'x']]) {
    const run = start(wrong, {});
    assert.is(await finish(run), 2);
    assert.match(run.output(), /usage: otpd COMMAND/);
  }
  const invalid = start(['key', 'new', 'a', 'all'], {});
  assert.is(await finish(invalid), 2);
  assert.match(invalid.output(), /^otpd: SCOPES must be one or more of request, verify, read, ad/);

  const owner = { ...ownServer(newDatabaseName()), API_KEYS: `${entry}, ${String(other.entry)}` };
  assert.is(await finish(start(['migrate'], owner)), 0);
  const run = start(['serve'], owner);
  const port = await portOf(run);
  await until(run, () => /-H "Authorization: Bearer \$KEY" \\\n/.test(run.output()));
  const ask = (Authorization: string) => post({ port, path: '/otp/request', key: 'a',
    body: { user_id: 'U1', purpose: 'login' }, headers: { Authorization } });
  assert.is((await request(port, 'U1', 'a')).status, 401);
  assert.is((await ask(`Bearer ${String(other.key)}`)).status, 403);
  assert.is((await ask(`Bearer ${entry!.split(':')[2]}`)).status, 401);
  assert.is((await ask(`Bearer ${key}`)).status, 201);
  await until(run, () => codesIn(run.output()).length === 1);
  run.child.kill('SIGTERM');
  assert.is(await finish(run), 0);
  assert.equal(logOf(run).map(({ level, event }) => `${level} ${event}`), [
    'info sys_startup', 'warn authn_login_fail', 'warn authz_fail', 'warn authn_login_fail',
    'info authn_token_created', 'info sys_shutdown',
  ]);
});

test('errors of API_KEYS stop the start in one message that quotes nothing', async () => {
  const { apiKeys } = newApiClients(['app1', 'app2']);
  const run = start(['serve'], variablesFor('unused', { PORT: 'x',
    API_KEYS: `${apiKeys},b:all:${'0'.repeat(63)},c` }));
  assert.is(await finish(run), 1);
  assert.is(run.output(), ['otpd: the configuration is invalid:',
    'PORT must be a whole number from 0 to 65535',
    'API_KEYS: entry 3 must have scopes out of request, verify, read, admin, to, joined by +',
    'API_KEYS: entry 3 must have the SHA-256 of a key, in 64 hex digits',
    'API_KEYS: entry 4 must be name:scopes:sha256'].join('\n  ') + '\n');
});

/** The parsed lines of the log. */
function logOf(run: Run): Record<string, unknown>[] {
  return run.logged().trimEnd().split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

const SMS = { DELIVERY: 'sms', SMS_ACCOUNT: 'AC1', SMS_TOKEN: 'token', SMS_SENDER: '+14155550100' };

test('e-mail without nodemailer is one line that says what to do', async () => {
  const environment = variablesFor('unused', { DELIVERY: 'email',
    SMTP_URL: 'smtp://localhost', EMAIL_FROM: 'no-reply@example.com' });
  for (const WORKERS of ['1', '2']) {
    const run = start(['serve'], { ...environment, WORKERS });
    assert.is(await finish(run), 1);
    assert.is(run.output(),
      'otpd: DELIVERY names email, which needs nodemailer: npm i nodemailer\n');
  }
});

test('an invalid template stops the start with its name and its error', async () => {
  await withFolder(async (folder) => {
    writeFileSync(join(folder, 'login.txt'), 'Come in.');
    const run = start(['serve'], variablesFor('unused', { MESSAGES_FOLDER: folder }));
    assert.is(await finish(run), 1);
    assert.is(run.output(), 'otpd: the configuration is invalid:\n'
      + `  ${join(folder, 'login.txt')} must contain {code}\n`);
    const unlocked = start(['unlock', 'U1', 'login'], { ...ownServer(newDatabaseName()),
      MESSAGES_FOLDER: folder, DELIVERY: 'none' });
    assert.is(await finish(unlocked), 1);
    assert.match(unlocked.output(), /^otpd: cannot connect to the database: .*ER_BAD_DB_ERROR/m);
  });
});

test('sms refuses a user that is no phone number, and the log contains no code', async () => {
  const sink = await startHttpSink();
  const owner = ownServer(newDatabaseName());
  assert.is(await finish(start(['migrate'], owner)), 0);
  const run = start(['serve'], { ...owner, ...SMS, SMS_BASE_URL: sink.url });
  const port = await portOf(run);
  const unreachable = await request(port, 'U1', 'a');
  assert.is(unreachable.status, 400);
  assert.equal(unreachable.body, { error: 'invalid_request', field: 'user_id',
    message: 'must be a phone number such as +14155550123' });

  assert.is((await request(port, '+14155550123', 'b')).status, 201);
  const [sent] = await sink.waitFor(1);
  const form = new URLSearchParams(sent!.body);
  const [code] = /\d{6}/.exec(form.get('Body')!)!;
  recordCode(code);
  assert.is(form.get('To'), '+14155550123');
  const body = { user_id: '+14155550123', purpose: 'login', code };
  assert.is((await post({ port, path: '/otp/verify', body })).status, 200);

  sink.behave(answer(400, {}, '{"message":"no such number"}'));
  const refused = await request(port, '+14155550124', 'c');
  assert.is(refused.status, 201);
  await until(run, () => /delivery_failed.*\n/.test(run.logged()));
  recordCode(/\d{6}/.exec(new URLSearchParams(sink.requests[1]!.body).get('Body')!)![0]);
  const { otp_id: otpId } = refused.body;
  const [issued, ...logged] = logOf(run).filter((line) => line.otp_id === otpId)
    .map(({ time, ...line }) => line);
  const { user } = issued!;
  assert.equal(logged, [
    { level: 'warn', event: 'delivery_refused', otp_id: otpId, user, channel: 'sms',
      reason: 'status 400' },
    { level: 'warn', event: 'delivery_failed', otp_id: otpId, user, reason: 'refused' },
  ]);
  run.child.kill('SIGTERM');
  assert.is(await finish(run), 0);
  assert.not.match(run.output(), /curl|14155550124/);
  await sink.close();
});

test.after(() => {
  closeClient();
  endAll();
});

test.run();
