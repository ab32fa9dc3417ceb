/** Processes are identified, found and ended. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { runCommand } from '../../tools/mysql/command.ts';
import {
  endProcess, markFromPs, processesWithArguments, searchPs, startMark,
} from '../../tools/mysql/processes.ts';

/** Above the largest process id (PID_MAX_LIMIT of Linux is 4194304). */
const NO_PROCESS = 4_194_305;

test('ps identifies processes on a system without /proc', async () => {
  const mark = await markFromPs(process.pid);
  assert.match(mark ?? '', /^\w{3}-\w{3}-\d+-[\d_]{8}-\d{4}$/);
  assert.is(await markFromPs(process.pid), mark);
  assert.is(await markFromPs(NO_PROCESS), undefined);
  assert.is(await startMark(NO_PROCESS), undefined);
});

test('processes are found by whole arguments, with and without /proc', async () => {
  const child = spawn(process.execPath, ['-e', 'process.stdin.resume()', '--', '--mark=/a/b', 'x']);
  try {
    await once(child, 'spawn');
    for (const search of [processesWithArguments, searchPs]) {
      assert.equal(await search(['--mark=/a/b', 'x']), [child.pid]);
      assert.equal(await search(['--mark=/a/b', 'y']), []);
      assert.equal(await search(['--mark=/a']), []);
    }
  } finally {
    child.kill();
  }
});

test('a program that is started gets no variable of otpd', async () => {
  const names = ['OTP_SECRETS', 'DB_PASSWORD', 'API_KEYS', 'SMS_TOKEN', 'SMTP_URL',
    'WEBHOOK_SECRETS', 'HTTPS_PROXY'];
  const before = { ...process.env };
  for (const name of names) process.env[name] = `hidden-${name}`;
  try {
    const { output } = await runCommand('/bin/cat', ['/proc/self/environ'], { timeoutMs: 60_000 });
    assert.match(output, `PATH=${process.env.PATH}`);
    assert.equal(output.match(/hidden-\w+/g), ['hidden-HTTPS_PROXY']);
  } finally {
    for (const name of names) delete process.env[name];
    Object.assign(process.env, before);
  }
});

test('a process that ignores SIGTERM is killed, and one that has ended is no error', async () => {
  const child = spawn('/bin/sh', ['-c', 'trap "" TERM; echo ready; while :; do read x; done']);
  await once(child.stdout, 'data');
  assert.is(await endProcess(child.pid ?? 0, 50), true);
  assert.is(child.signalCode ?? (await once(child, 'exit'))[1], 'SIGKILL');
  assert.is(await endProcess(NO_PROCESS), true);
});

test.run();
