/** The build with production dependencies only: every command that an operator runs. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Finding } from '../../src/app/output.ts';
import { closeClient } from '../harness/client.ts';
import { objectOf, variablesFor } from '../harness/command.ts';
import type { CommandResult, Variables } from '../harness/command.ts';
import { newDatabaseName } from '../harness/database.ts';
import { startHttpSink } from '../harness/http-sink.ts';
import { ROOT, SHELL } from '../harness/program.ts';
import { endAll, finish, portOf, request, start } from '../harness/run.ts';
import { recordCode, recordVisible } from '../harness/leak-recorder.ts';

const folder = mkdtempSync(join(tmpdir(), 'otpd-production-'));
const main = join(folder, 'dist/main.js');

function run(
  program: string,
  parameters: readonly string[],
  env: NodeJS.ProcessEnv,
): CommandResult {
  const { status, stdout: out, stderr: err } = spawnSync(program, parameters,
    { cwd: folder, env, encoding: 'utf8' });
  return { status, out, err };
}

function otpd(parameters: readonly string[], variables: Variables = {}): CommandResult {
  const ended = run(process.execPath, [main, ...parameters], { ...SHELL, ...variables });
  recordVisible(ended.out + ended.err);
  return ended;
}

test.before(() => {
  const tsc = join(ROOT, 'node_modules/.bin/tsc');
  const project = join(ROOT, 'tsconfig.build.json');
  const built = run(tsc, ['-p', project, '--outDir', join(folder, 'dist')], process.env);
  assert.is(built.status, 0, built.out);
  for (const name of ['package.json', 'package-lock.json', 'schema', 'messages',
    'openapi.json', 'pages']) {
    cpSync(join(ROOT, name), join(folder, name), { recursive: true });
  }
  const installed = run('npm', ['ci', '--omit=dev', '--prefer-offline', '--no-audit', '--no-fund'],
    process.env);
  assert.is(installed.status, 0, installed.err);
});

test.after(() => {
  closeClient();
  endAll();
  rmSync(folder, { recursive: true, force: true });
});

test('the build contains nothing of the development MySQL, and installs only mysql2', () => {
  const files = readdirSync(join(folder, 'dist'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.js'));
  assert.ok(files.includes('main.js'));
  const wrong = files.filter((name) =>
    /mysqld|\bapt\b|apt-get/i.test(readFileSync(join(folder, 'dist', name), 'utf8')));
  assert.equal(wrong, []);
  const modules = readdirSync(join(folder, 'node_modules'));
  assert.ok(modules.includes('mysql2'));
  for (const name of ['tsx', 'typescript']) assert.not.ok(modules.includes(name));
});

test('every command that needs a database ends without one: one error, and no file is left', () => {
  const before = readdirSync(folder).sort();
  for (const parameters of [['serve'], ['migrate'], ['show', '--text', 'U1'],
    ['unlock', '--text', 'U1', 'login'], ['cancel', '--text', 'ab'.repeat(16)]]) {
    const { status, out, err } = otpd(parameters);
    assert.equal([status, out], [1, ''], parameters[0]);
    assert.match(err, /^otpd: .*DB_HOST or DB_SOCKET .*npm start.*\n$/);
  }
  const doctor = otpd(['doctor']);
  assert.is(doctor.status, 1);
  assert.is(objectOf(doctor).faults, 2);
  assert.equal(readdirSync(folder).sort(), before);
});

test('serve, migrate and the commands of the operator run on the production packages', async () => {
  const sink = await startHttpSink();
  const variables = variablesFor(newDatabaseName(), { DELIVERY: 'webhook,console',
    WEBHOOK_SECRETS: `whsec_${randomBytes(32).toString('base64')}`, WEBHOOK_URL: sink.url,
    MESSAGES_LANGUAGE: 'de' });
  assert.match(otpd(['migrate'], variables).out, /schema files applied\n$/);
  const served = start(['serve'], variables, [main]);
  const issued = await request(await portOf(served), 'U1', 'a');
  assert.is(issued.status, 201);
  const [sent] = await sink.waitFor(1);
  const { data: { code } } = JSON.parse(sent!.body) as { data: { code: string } };
  recordCode(code);
  assert.match(sent!.body, `"${code} ist Ihr Code`);
  assert.not.match(served.output(), /printed here/);

  const { findings } = objectOf(otpd(['doctor'], variables)) as { findings: Finding[] };
  // The throwaway MySQL of the tests does not flush its commits, which doctor reports.
  assert.equal(findings.filter(({ level }) => level === 'fault').map(({ check }) => check),
    ['durability']);
  assert.is(objectOf(otpd(['show', 'U1'], variables)).user_id, 'U1');
  assert.is(objectOf(otpd(['unlock', 'U1', 'login'], variables)).outcome, 'not_locked');
  const otpId = String(issued.body.otp_id);
  assert.is(objectOf(otpd(['cancel', otpId], variables)).outcome, 'canceled');
  served.child.kill('SIGTERM');
  assert.is(await finish(served), 0);
  await sink.close();
});

test('secret, key and help need no database and no configuration', () => {
  assert.match(otpd(['secret', 'new']).out, /^k\w+:[A-Za-z0-9+/]{43}=\n$/);
  assert.is(run(process.execPath, [main, 'key', 'new', 'app1'], SHELL).status, 0);
  assert.match(otpd(['help']).out, /^usage: otpd COMMAND\n/);
});

test('a start without openapi.json names the file and where it comes from', () => {
  rmSync(join(folder, 'openapi.json'));
  const { status, err } = otpd(['serve'], variablesFor(newDatabaseName()));
  assert.is(status, 1);
  const path = join(folder, 'openapi.json');
  assert.match(err, `${path} cannot be read (ENOENT); it is a part of otpd`);
});

test.run();
