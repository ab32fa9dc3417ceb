/** The processes that tools/dev.ts starts: signals, crashes and code changes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync, existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { freePort } from '../harness/free-port.ts';
import { childrenOf } from '../harness/otpd.ts';
import { codesIn, withoutLog } from '../harness/printed.ts';
import { ROOT, SHELL } from '../harness/program.ts';
import { finish, portOf, request, start, until } from '../harness/run.ts';
import { errorOf, eventually } from '../harness/waiting.ts';
import {
  base, cleanUp, DATA_FOLDER, dev, ENVIRONMENT, mysqlId, mysqlProcesses, stop, WAIT_MAX_MS,
} from './dev-fixture.ts';

test.after(cleanUp);

test('otpd ends when tools/dev.ts was killed, and the next start replaces its MySQL', async () => {
  const port = await freePort();
  const killed = dev(['serve'], { PORT: String(port) });
  assert.is(await portOf(killed), port);
  const [otpd] = childrenOf(killed.child.pid!);
  killed.child.kill('SIGKILL');
  await killed.ended;
  await eventually('otpd has ended', () => !existsSync(`/proc/${otpd}`), WAIT_MAX_MS);
  const orphan = await mysqlId();
  const next = dev(['serve'], { PORT: String(port) });
  assert.is(await portOf(next), port);
  assert.is.not(await mysqlId(), orphan);
  await stop(next);
});

test('each signal reaches otpd exactly once, and MySQL outlives the last answer', async () => {
  const run = dev(['serve'], { SMS_TOKEN: 'hidden' });
  const port = await portOf(run);
  const environment = readFileSync(`/proc/${await mysqlId()}/environ`, 'utf8');
  assert.match(environment, 'UMASK=0600');
  assert.not.match(environment, 'hidden');
  const count = (event: string) => run.logged().split(`"event":"${event}"`).length - 1;
  run.child.kill('SIGHUP');
  await until(run, () => count('nothing_to_reload') === 1);
  run.child.kill('SIGUSR2');
  await until(run, () => count('roll_refused') === 1);
  const answered = request(port, 'U2', 'in flight');
  await until(run, () => codesIn(run.output()).length === 1);
  // Ctrl-C under npm sends two signals: one from the terminal, one from npm.
  run.child.kill('SIGINT');
  run.child.kill('SIGINT');
  run.child.kill('SIGTERM');
  assert.is((await answered).status, 201);
  assert.is(await finish(run), 0);
  assert.equal(['sys_shutdown', 'nothing_to_reload', 'roll_refused'].map(count), [1, 1, 1]);
  assert.equal(await mysqlProcesses(), []);
});

for (const [what, signal, isGroup, script] of [
  ['Ctrl-C in its terminal', 'SIGINT', true, 'start'],
  ['the end of its terminal', 'SIGHUP', true, 'start'],
  ['SIGTERM to npm alone', 'SIGTERM', false, 'start'],
  ['SIGINT to npm alone', 'SIGINT', false, 'start'],
  ['SIGHUP to npm alone', 'SIGHUP', false, 'start'],
  ['SIGKILL to npm alone', 'SIGKILL', false, 'start'],
  ['SIGINT to npm alone', 'SIGINT', false, 'dev'],
] as const) {
  test(`npm run ${script} ends with all that it started on ${what}`, async () => {
    const child = spawn('npm', ['run', script], { cwd: ROOT, detached: true,
      env: { ...SHELL, ...ENVIRONMENT, PORT: '0' } as NodeJS.ProcessEnv });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => { output += chunk.toString(); });
    }
    const closed = once(child, 'close');
    // The address and the log come through two pipes.
    const portIn = () => Number(/otpd answers on http:\/\/127.*:(\d+)/.exec(output)?.[1] ?? 0);
    await eventually('otpd answers', () =>
      output.includes('sys_startup') && portIn() > 0, WAIT_MAX_MS);
    const port = portIn();
    process.kill(isGroup ? -child.pid! : child.pid!, signal);
    // The streams close when the last process that holds them has exited.
    const [code, endedBy] = await closed;
    assert.is(await errorOf(request(port, 'U3', 'x')).then(({ message }) => message),
      `connect ECONNREFUSED 127.0.0.1:${port}`);
    const isPassedOn = signal === 'SIGINT' || signal === 'SIGTERM';
    assert.equal([code, endedBy], isPassedOn ? [0, null] : [null, signal]);
    assert.is(output.split('stopping: answering').length - 1, 1);
    assert.match(withoutLog(output), /stopped\n$/);
    assert.equal(await mysqlProcesses(), []);
  });
}

test('SIGTERM while MySQL starts is a quiet end, and no MySQL is left', async () => {
  const folder = join(base, 'broken off');
  const run = dev(['serve'], { DATA_FOLDER: folder });
  await until(run, () => /Starting MySQL|Creating/.test(run.output()));
  run.child.kill('SIGTERM');
  assert.is(await finish(run), 0);
  assert.not.match(run.output(), /otpd:/);
  assert.equal(await mysqlProcesses(folder), []);
});

test('a MySQL that dies is restarted, and nothing is lost; one that keeps dying ends all',
  async () => {
    const run = dev(['serve']);
    const port = await portOf(run);
    const issued = await request(port, 'U3', 'kept');
    const said = () => run.output().split('MySQL ended by itself').length - 1;
    // MySQL writes this file after each start.
    const startMs = () => statSync(join(DATA_FOLDER, 'mysql-version')).mtimeMs;
    const firstMs = startMs();
    process.kill(await mysqlId(), 'SIGKILL');
    await until(run, () => said() === 1 && startMs() > firstMs);
    let replay = await request(port, 'U3', 'kept');
    await eventually('MySQL is back', async () => {
      replay = await request(port, 'U3', 'kept');
      return replay.status !== 503;
    }, WAIT_MAX_MS);
    assert.is(replay.text, issued.text);
    for (let deaths = 2; deaths <= 6; deaths += 1) {
      const startedMs = startMs();
      process.kill(await mysqlId(), 'SIGKILL');
      if (deaths < 6) await until(run, () => said() === deaths && startMs() > startedMs);
    }
    assert.is(await finish(run), 1);
    assert.match(run.output(), /^otpd: The development MySQL keeps ending by itself\./m);
    assert.equal(await mysqlProcesses(), []);
  });

/** A copy of the working tree, whose files a test may change. */
function copyProject(): string {
  const copy = join(base, 'copy');
  mkdirSync(copy);
  for (const name of ['src', 'tools', 'schema', 'messages', 'openapi.json', 'package.json']) {
    cpSync(join(ROOT, name), join(copy, name), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

test('npm run dev restarts otpd when its code changes, and MySQL runs on', async () => {
  const copy = copyProject();
  const main = join(copy, 'src/main.ts');
  const run = start(['serve'], ENVIRONMENT,
    ['--import', 'tsx', join(copy, 'tools/dev.ts'), '--watch']);
  const ports = () => [...run.output().matchAll(/otpd answers on http:\/\/127.*:(\d+)/g)]
    .map(([, port]) => Number(port));
  await until(run, () => ports().length === 1);
  const id = await mysqlId();
  const text = readFileSync(main, 'utf8');
  writeFileSync(main, `${text}\nprocess.stdout.write('changed\\n');\n`);
  await until(run, () => ports().length === 2);
  assert.is((await request(ports()[1]!, 'U4', 'changed')).status, 201);
  writeFileSync(main, 'this is no TypeScript');
  await until(run, () => run.output().includes('otpd ended; it restarts on the next change.'));
  writeFileSync(main, text);
  await until(run, () => ports().length === 3);
  assert.is(await mysqlId(), id);
  await stop(run, 'SIGINT');
});

test.run();
