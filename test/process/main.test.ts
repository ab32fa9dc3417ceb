/** The commands as a user runs them: real processes, a private MySQL and one of the user's own. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openConnection } from '../../src/db/connection.ts';
import { closeClient, post } from '../harness/client.ts';
import { newDatabaseName, serverSocket, settingsFor } from '../harness/database.ts';
import { answer, startHttpSink } from '../harness/http-sink.ts';
import type { Received } from '../harness/http-sink.ts';
import { newCallers } from '../harness/callers.ts';
import { codesIn, saidIn, withoutMessages } from '../harness/printed.ts';
import { COMPILED, FROM_SOURCE, ROOT, SHELL } from '../harness/program.ts';
import { recordCode, recordKey, recordVisible } from '../harness/leak-recorder.ts';

const WAIT_MAX_MS = 120_000;
const POLL_MS = 20;

/** What a test that failed has left running is ended at the end. */
const children = new Set<ChildProcess>();

type Run = {
  child: ChildProcess;
  /** What was printed and what was logged. */
  output: () => string;
  logged: () => string;
  ended: Promise<number | null>;
};

/** What the command that makes a key prints of it. */
const NEW_KEY = /otpd_[A-Za-z0-9_-]{43}|\b[0-9a-f]{64}\b/g;

function start(parameters: string[], environment: object, program = COMPILED): Run {
  const child = spawn(process.execPath, [...program, ...parameters], {
    cwd: ROOT, env: { ...SHELL, PORT: '0', ...environment } as NodeJS.ProcessEnv,
  });
  children.add(child);
  let output = '';
  let logged = '';
  child.stdout.on('data', (chunk: Buffer) => { output += chunk.toString(); });
  child.stderr.on('data', (chunk: Buffer) => {
    output += chunk.toString();
    logged += chunk.toString();
  });
  const ended = once(child, 'close').then(([code]) => {
    for (const each of codesIn(output)) recordCode(each);
    if (parameters[0] === 'key') for (const [text] of output.matchAll(NEW_KEY)) recordKey(text);
    else recordVisible(withoutMessages(output));
    return code as number | null;
  });
  return { child, output: () => output, logged: () => logged, ended };
}

/** Polls a condition; fails with the output when it does not come true in time. */
async function until<T>(run: Run, find: () => T | undefined | null | false): Promise<T> {
  for (let waited = 0; waited < WAIT_MAX_MS; waited += POLL_MS) {
    const found = find();
    if (found) return found;
    if (run.child.exitCode !== null) break;
    await delay(POLL_MS);
  }
  throw new Error(`it did not come: ${find}\n${run.output()}`);
}

/** Waits, with a bound, until it has printed this. */
async function prints(run: Run, pattern: RegExp): Promise<void> {
  await until(run, () => pattern.test(run.output()));
}

async function portOf(run: Run): Promise<number> {
  const pattern = /otpd answers on http:\/\/127\.0\.0\.1:(\d+)/;
  return Number(await until(run, () => pattern.exec(run.output())?.[1]));
}

async function finish(run: Run): Promise<number | null> {
  const late = setTimeout(() => run.child.kill('SIGKILL'), WAIT_MAX_MS);
  const code = await run.ended;
  clearTimeout(late);
  return code;
}

function request(port: number, user: string, key: string) {
  return post({ port, path: '/otp/request', key, body: { user_id: user, purpose: 'login' } });
}

async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-main-'));
  try {
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('serve with a private MySQL: from request to redemption, and all of it kept', async () => {
  await withFolder(async (folder) => {
    const environment = { DATA_FOLDER: join(folder, '.otpd') };
    const first = start(['serve'], environment, FROM_SOURCE);
    const port = await portOf(first);
    await prints(first, /using a private MySQL/);
    await prints(first, /curl -i http:\/\/127\.0\.0\.1:\d+\/otp\/request/);
    const issued = await request(port, 'U1', 'first');
    assert.is(issued.status, 201);
    const codes = () => codesIn(first.output());
    const [code] = await until(first, () => codes().length > 0 && codes());

    const second = start(['serve'], environment);
    assert.is(await finish(second), 1);
    assert.match(second.output(), /in use|owned|already|owner/i);

    assert.is(statSync(environment.DATA_FOLDER).mode & 0o777, 0o700);
    assert.is(statSync(join(environment.DATA_FOLDER, 'secrets')).mode & 0o777, 0o600);
    first.child.kill('SIGTERM');
    assert.is(await finish(first), 0);
    assert.match(saidIn(first.output()), /stopped\n$/);

    const third = start(['serve'], environment);
    const again = await portOf(third);
    const replay = await request(again, 'U1', 'first');
    assert.is(replay.text, issued.text);
    assert.is(replay.headers['idempotent-replayed'], 'true');
    third.child.kill('SIGKILL');
    await finish(third);

    const fourth = start(['serve'], environment);
    const body = { user_id: 'U1', purpose: 'login', code };
    const verified = await post({ port: await portOf(fourth), path: '/otp/verify', body });
    assert.is(verified.status, 200);
    fourth.child.kill('SIGINT');
    fourth.child.kill('SIGINT');
    assert.is(await finish(fourth), 0);
  });
});

test('a private MySQL that dies is started again, and nothing is lost', async () => {
  await withFolder(async (folder) => {
    const run = start(['serve'], { DATA_FOLDER: folder });
    const port = await portOf(run);
    const issued = await request(port, 'U1', 'a');
    const beside = start(['unlock', 'U1', 'login'], { DATA_FOLDER: folder });
    assert.is(await finish(beside), 0);
    assert.match(beside.output(), /^{"outcome":"unlocked",/);
    process.kill(Number(readFileSync(join(folder, 'mysqld.pid'), 'utf8')), 'SIGKILL');
    await until(run, () => /MySQL ended by itself; starting it again/.test(run.output()));
    let replay = await request(port, 'U1', 'a');
    for (let waited = 0; replay.status === 503 && waited < WAIT_MAX_MS; waited += POLL_MS) {
      await delay(POLL_MS);
      replay = await request(port, 'U1', 'a');
    }
    assert.is(replay.text, issued.text);
    run.child.kill('SIGTERM');
    assert.is(await finish(run), 0);
  });
});

test('several workers on one port: one limit over all, and one stop', async () => {
  await withFolder(async (folder) => {
    const run = start(['serve'], { DATA_FOLDER: folder, WORKERS: '3' });
    const port = await portOf(run);
    const replies = await Promise.all(Array.from({ length: 12 }, (_, index) =>
      request(port, 'U1', `k${index}`)));
    assert.equal(replies.map(({ status }) => status).filter((status) => status === 201).length, 3);
    await until(run, () => codesIn(run.output()).length === 3);
    run.child.kill('SIGTERM');
    assert.is(await finish(run), 0);
    assert.match(saidIn(run.output()), /stopped\n$/);
  });
});

test('a port that is taken: one clear error, and no MySQL left behind', async () => {
  await withFolder(async (folder) => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const run = start(['serve'], { DATA_FOLDER: folder, PORT: String(port) });
    assert.is(await finish(run), 1);
    assert.match(run.output(), /otpd: listen EADDRINUSE/);
    assert.not.match(run.output(), /\n\s+at /);
    assert.throws(() => statSync(join(folder, 'mysqld.pid')), /ENOENT/);
    taken.close();
  });
});

test('SIGTERM while MySQL starts: quiet end, no MySQL left behind', async () => {
  await withFolder(async (folder) => {
    const run = start(['serve'], { DATA_FOLDER: folder });
    await until(run, () => /Starting MySQL|Creating/.test(run.output()));
    run.child.kill('SIGTERM');
    assert.is(await finish(run), 0);
    assert.not.match(run.output(), /otpd:/);
  });
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

test('an own MySQL: serve refuses pending migrations by name, migrate, serve', async () => {
  const name = newDatabaseName();
  const owner = ownServer(name);
  const unmade = start(['serve'], owner);
  assert.is(await finish(unmade), 1);
  assert.match(unmade.output(), /ER_BAD_DB_ERROR/);
  await asRoot(`CREATE DATABASE ${name}`);
  const refused = start(['serve'], owner);
  assert.is(await finish(refused), 1);
  assert.match(refused.output(), /lacks 0001-schema-migrations.*\nrun: npm run migrate/);

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
  assert.not.match(run.output(), /private MySQL/);
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

  await asRoot(`INSERT INTO ${name}.schema_migrations VALUES (99, 'later', NOW(6), NOW(6))`,
    'COMMIT');
  for (const command of ['serve', 'migrate']) {
    const newer = start([command], owner);
    assert.is(await finish(newer), 1);
    assert.match(newer.output(), /newer than this otpd/);
  }
});

test('mistakes get one clear message: password, variables, command, arguments', async () => {
  const denied = start(['serve'], ownServer(newDatabaseName(), 'nobody', 'x'));
  assert.is(await finish(denied), 1);
  assert.match(denied.output(), /^otpd: cannot connect to the database: .*ER_ACCESS_DENIED/m);
  const errors = start(['serve'], { DB_HOST: 'h', PORT: 'x' });
  assert.is(await finish(errors), 1);
  assert.match(errors.output(), /DB_USER must be set[^]*OTP_SECRETS must be set[^]*PORT must be/);
  const unknown = start(['sevre'], {});
  assert.is(await finish(unknown), 2);
  assert.match(unknown.output(), /usage: otpd COMMAND/);
  const bare = start(['unlock', 'U1'], ownServer(newDatabaseName()));
  assert.is(await finish(bare), 2);
  assert.match(bare.output(), /usage: otpd COMMAND/);
  const help = start([], {});
  assert.is(await finish(help), 0);
});

test('a key is made without a database or a configuration, and lets its caller in', async () => {
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
  for (const wrong of [['key'], ['key', 'old', 'a'], ['key', 'new'], ['key', 'new', '-h'],
    ['key', 'new', 'a', 'read', 'x']]) {
    const run = start(wrong, {});
    assert.is(await finish(run), 2);
    assert.match(run.output(), /usage: otpd COMMAND/);
  }
  const faulty = start(['key', 'new', 'a', 'all'], {});
  assert.is(await finish(faulty), 2);
  assert.match(faulty.output(), /^otpd: SCOPES must be out of request, verify, read, admin/);

  const owner = { ...ownServer(newDatabaseName()), API_KEYS: `${entry}, ${String(other.entry)}` };
  assert.is(await finish(start(['migrate'], owner)), 0);
  const run = start(['serve'], owner);
  const port = await portOf(run);
  await prints(run, /-H "Authorization: Bearer \$KEY" \\\n/);
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

test('faults of API_KEYS stop the start, in the one message, and quote nothing', async () => {
  const { apiKeys } = newCallers(['app1', 'app2']);
  const run = start(['serve'], { PORT: 'x', API_KEYS: `${apiKeys},b:all:${'0'.repeat(63)},c` });
  assert.is(await finish(run), 1);
  assert.is(run.output(), ['otpd: the configuration is at fault:',
    'PORT must be a whole number from 0 to 65535',
    'API_KEYS: entry 3 must have scopes out of request, verify, read, admin, joined by +',
    'API_KEYS: entry 3 must have the SHA-256 of a key, in 64 hex digits',
    'API_KEYS: entry 4 must be name:scopes:sha256'].join('\n  ') + '\n');
});

/** The code of a webhook, noted for the leak test. */
function codeOf({ body }: Received): string {
  const { data: { code } } = JSON.parse(body) as { data: { code: string } };
  recordCode(code);
  return code;
}

/** The lines of the log, each parsed. */
function logOf(run: Run): Record<string, unknown>[] {
  return run.logged().trimEnd().split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

const SMS = { DELIVERY: 'sms', SMS_ACCOUNT: 'AC1', SMS_TOKEN: 'token', SMS_SENDER: '+14155550100' };
const WEBHOOK_SECRETS = `whsec_${randomBytes(32).toString('base64')}`;

test('e-mail without nodemailer: one line says what to do, and nothing is started', async () => {
  const environment = { DELIVERY: 'email', SMTP_URL: 'smtp://localhost',
    EMAIL_FROM: 'no-reply@example.com' };
  for (const WORKERS of ['1', '2']) {
    const run = start(['serve'], { ...environment, WORKERS });
    assert.is(await finish(run), 1);
    assert.is(run.output(),
      'otpd: DELIVERY names email, which needs nodemailer: npm i nodemailer\n');
  }
});

test('a template that is at fault stops the start, with its name and what is wrong', async () => {
  await withFolder(async (folder) => {
    writeFileSync(join(folder, 'login.txt'), 'Come in.');
    const run = start(['serve'], { MESSAGES_FOLDER: folder });
    assert.is(await finish(run), 1);
    assert.is(run.output(), 'otpd: the configuration is at fault:\n'
      + `  ${join(folder, 'login.txt')} must contain {code}\n`);
    const beside = start(['unlock', 'U1', 'login'], { ...ownServer(newDatabaseName()),
      MESSAGES_FOLDER: folder, DELIVERY: 'none' });
    assert.is(await finish(beside), 1);
    assert.match(beside.output(), /^otpd: cannot connect to the database: .*ER_BAD_DB_ERROR/m);
  });
});

test('sms: no phone number is a fault; the log tells of refusals, and no code', async () => {
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
  const [issued, ...told] = logOf(run).filter((line) => line.otp_id === otpId)
    .map(({ time, ...line }) => line);
  const { user } = issued!;
  assert.equal(told, [
    { level: 'warn', event: 'delivery_refused', otp_id: otpId, user, channel: 'sms',
      reason: 'status 400' },
    { level: 'warn', event: 'delivery_failed', otp_id: otpId, user, reason: 'refused' },
  ]);
  run.child.kill('SIGTERM');
  assert.is(await finish(run), 0);
  assert.not.match(run.output(), /curl|14155550124/);
  await sink.close();
});

test('the build runs with plain node, and finds its templates', async () => {
  const build = start([join(ROOT, 'node_modules/.bin/tsc'), '-p', 'tsconfig.build.json'], {}, []);
  assert.is(await finish(build), 0, build.output());
  const sink = await startHttpSink();
  const owner = { ...ownServer(newDatabaseName()), DELIVERY: 'webhook,console', WEBHOOK_SECRETS,
    WEBHOOK_URL: sink.url, MESSAGES_LANGUAGE: 'de' };
  const migrated = start(['migrate'], owner, [join(ROOT, 'dist/main.js')]);
  assert.is(await finish(migrated), 0, migrated.output());
  const run = start(['serve'], owner, [join(ROOT, 'dist/main.js')]);
  assert.is((await request(await portOf(run), 'U1', 'a')).status, 201);
  const [sent] = await sink.waitFor(1);
  const code = codeOf(sent!);
  assert.match(sent!.body, `"${code} ist Ihr Code`);
  run.child.kill('SIGTERM');
  assert.is(await finish(run), 0);
  assert.not.match(run.output(), /printed here/);
  await sink.close();
});

test.after(() => {
  closeClient();
  for (const child of children) if (child.exitCode === null) child.kill('SIGTERM');
});

test.run();
