/** The npm scripts without a configured database: how tools/dev.ts runs each command. */
import { once } from 'node:events';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openConnection } from '../../src/db/connection.ts';
import type { Finding } from '../../src/app/output.ts';
import { findRunningServer } from '../../tools/mysql/socket-path.ts';
import { post } from '../harness/client.ts';
import { newVariables } from '../harness/command.ts';
import { settingsFor } from '../harness/database.ts';
import { expectedVersion } from '../harness/mysql.ts';
import { childrenOf } from '../harness/otpd.ts';
import { codesIn, withoutLog } from '../harness/printed.ts';
import { DEV_FROM_SOURCE } from '../harness/program.ts';
import { finish, portOf, request, until } from '../harness/run.ts';
import { base, cleanUp, DATA_FOLDER, dev, mysqlId, mysqlProcesses, stop } from './dev-fixture.ts';

test.after(cleanUp);

test('npm start issues a code in one command, and its data survives', async () => {
  const first = dev(['serve'], {}, DEV_FROM_SOURCE);
  const port = await portOf(first);
  await until(first, () => /curl -i http:\/\/127\.0\.0\.1:\d+\/otp\/request/.test(first.output()));
  assert.match(first.output(), /^DB_HOST and DB_SOCKET are not set: .*\nCreating an empty data/);
  const issued = await request(port, 'U1', 'first');
  assert.is(issued.status, 201);
  const codes = () => codesIn(first.output());
  const [code] = await until(first, () => codes().length > 0 && codes());

  const second = dev(['serve']);
  assert.is(await finish(second), 1);
  assert.match(second.output(), new RegExp(`in use: .*process id ${first.child.pid} `));
  assert.is(statSync(DATA_FOLDER).mode & 0o777, 0o700);
  assert.is(statSync(join(DATA_FOLDER, 'secrets')).mode & 0o777, 0o600);
  await stop(first);
  assert.match(withoutLog(first.output()), /stopped\n$/);

  const third = dev(['serve']);
  const replay = await request(await portOf(third), 'U1', 'first');
  assert.is(replay.text, issued.text);
  assert.is(replay.headers['idempotent-replayed'], 'true');
  const body = { user_id: 'U1', purpose: 'login', code };
  const verified = await post({ port: await portOf(third), path: '/otp/verify', body });
  assert.is(verified.status, 200);
  await stop(third, 'SIGINT');
});

test('a port in use is reported before MySQL starts, and exit codes are passed on', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address() as AddressInfo;
  const run = dev(['serve'], { PORT: String(port) });
  assert.is(await finish(run), 1);
  assert.match(run.output(), /^otpd: PORT: .*EADDRINUSE.*another process listens there/);
  assert.is(run.output().split('\n').length, 2);
  assert.equal(await mysqlProcesses(), []);
  taken.close();
  assert.is(await finish(dev(['unlock'])), 2);
  assert.equal(await mysqlProcesses(), []);
});

test('a wrong argument of serve or migrate is reported before MySQL starts', async () => {
  for (const command of ['serve', 'migrate']) {
    const run = dev([command, '--port', '1']);
    assert.is(await finish(run), 2);
    assert.match(run.output(),
      new RegExp(`^otpd: unknown option "--port"; ${command} takes no options\nusage: `));
  }
  assert.equal(await mysqlProcesses(), []);
});

test('commands that read a database use the one that runs, or start it', async () => {
  const run = dev(['serve']);
  await portOf(run);
  const id = await mysqlId();
  const unlocked = dev(['unlock', 'U1', 'login']);
  assert.is(await finish(unlocked), 0);
  assert.match(unlocked.output(), /^{"outcome":"not_locked",/);
  assert.is(await mysqlId(), id);

  const doctor = dev(['doctor']);
  assert.is(await finish(doctor), 0, doctor.output());
  const { findings } = JSON.parse(doctor.output()) as { findings: Finding[] };
  const server = settingsFor(null, (await findRunningServer(DATA_FOLDER))!);
  const version = await expectedVersion(server);
  assert.equal(findings.filter(({ check }) => check === 'version'), [version]);
  assert.equal(findings.filter(({ level }) => level !== 'ok').map(({ check }) => check)
    .filter((check) => !['node', 'version'].includes(check)), ['callers', 'delivery']);

  const other = dev(['show', 'U1'], { DB_NAME: 'never_made' });
  assert.is(await finish(other), 1);
  assert.match(other.output(), /ER_BAD_DB_ERROR/);
  const root = await openConnection(server);
  const rows = await root.run('test', 'SHOW DATABASES LIKE ?', ['never_made']);
  root.destroy();
  assert.equal(rows, []);
  await stop(run);

  const show = dev(['show', 'U1']);
  assert.is(await finish(show), 0);
  assert.match(show.logged(), /^DB_HOST and DB_SOCKET are not set: [^]*Starting MySQL/);
  assert.is(JSON.parse(show.output().replace(show.logged(), '')).user_id, 'U1');
  assert.equal(await mysqlProcesses(), []);
});

test('the account of otpd has rights on its own database only', async () => {
  const run = dev(['serve'], { DB_NAME: 'my_project' });
  await portOf(run);
  const [id] = childrenOf(run.child.pid!);
  const given = readFileSync(`/proc/${id}/environ`, 'utf8').split('\0');
  const valueOf = (name: string) =>
    given.findLast((entry) => entry.startsWith(`${name}=`))!.slice(name.length + 1);
  const session = await openConnection({ ...settingsFor('my_project', valueOf('DB_SOCKET')),
    user: valueOf('DB_USER') });
  const grants = await session.run('test', 'SHOW GRANTS', []);
  session.destroy();
  const user = `\`${valueOf('DB_USER')}\`@\`localhost\``;
  assert.equal(grants.flatMap((row) => Object.values(row)), [
    `GRANT USAGE ON *.* TO ${user}`,
    `GRANT ALL PRIVILEGES ON \`my\\_project\`.* TO ${user}`,
  ]);
  assert.match(readFileSync(valueOf('OTP_SECRETS_FILE'), 'utf8'), /^local:/);
  assert.not.match(given.join('\n'), 'local:');
  await stop(run);
});

test('only serve and migrate create a database', async () => {
  const folder = join(base, 'none');
  for (const parameters of [['show', 'U1'], ['unlock', 'U1', 'login'], ['doctor'],
    ['cancel', 'ab'.repeat(16)]]) {
    const run = dev(parameters, { DATA_FOLDER: folder });
    assert.is(await finish(run), 1);
    assert.match(run.output(), /DB_HOST or DB_SOCKET must be set .*npm start/);
  }
  for (const parameters of [['secret', 'new'], ['key', 'new', 'app1'], ['help']]) {
    assert.is(await finish(dev(parameters, { DATA_FOLDER: folder })), 0);
  }
  const faulty = dev(['serve'], { DATA_FOLDER: folder, PORT: 'x' });
  assert.is(await finish(faulty), 1);
  assert.match(faulty.output(), /^otpd: the configuration is invalid:\n {2}PORT must be .*\n$/);
  assert.not.ok(existsSync(folder));
  const migrated = dev(['migrate'], { DATA_FOLDER: folder });
  assert.is(await finish(migrated), 0);
  assert.match(migrated.output(), /schema files applied\n$/);
  assert.equal(await mysqlProcesses(folder), []);
});

test('a command with DB_SOCKET set runs unchanged, without another process', async () => {
  const folder = join(base, 'unused');
  const run = dev(['serve'], await newVariables({ DATA_FOLDER: folder, WORKERS: '2' }));
  await portOf(run);
  assert.not.match(run.output(), /MySQL/);
  assert.is(childrenOf(run.child.pid!).length, 2);
  run.child.kill('SIGTERM');
  assert.is(await finish(run), 0);
  assert.not.ok(existsSync(folder));
});

test.run();
