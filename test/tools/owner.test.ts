/** The owner of a data folder: races, dead owners, and releases. */
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { MysqlServerError } from '../../tools/mysql/error.ts';
import { claimOwnership } from '../../tools/mysql/owner.ts';
import { withFolder } from '../harness/run.ts';
import { errorOf } from '../harness/waiting.ts';
import { startOther } from './fixture.ts';
import type { OtherProcess } from './fixture.ts';

const PROCESSES = 10;
const ROUNDS = 5;

async function raceOnce(others: readonly OtherProcess[]): Promise<string[]> {
  for (const other of others) other.send('claim');
  return Promise.all(others.map((other) => other.line()));
}

test('one of ten processes becomes the owner, also after the death of an owner', async () => {
  await withFolder(async (folder) => {
    const others = Array.from({ length: PROCESSES }, () =>
      startOther('owner-child.ts', [folder]));
    try {
      for (const other of others) assert.is(await other.line(), 'ready');
      for (let round = 0; round < ROUNDS; round += 1) {
        const alive = others.filter(({ child }) => child.signalCode === null);
        const answers = await raceOnce(alive);
        const owners = answers.filter((answer) => answer.startsWith('owner '));
        assert.is(owners.length, 1, answers.join(', '));
        const processId = owners[0]?.slice('owner '.length);
        const refusals = answers.filter((answer) => answer === `refused ${processId}`);
        assert.is(refusals.length, alive.length - 1, answers.join(', '));
        await others.find(({ child }) => String(child.pid) === processId)?.kill();
      }
    } finally {
      await Promise.all(others.map((other) => other.kill()));
    }
  });
});

test('one of many claims within a process succeeds', async () => {
  await withFolder(async (folder) => {
    const claims = Array.from({ length: 20 }, () => claimOwnership(folder));
    const settled = await Promise.allSettled(claims);
    assert.is(settled.filter(({ status }) => status === 'fulfilled').length, 1);
  });
});

test('a second claim is refused until the release, which is idempotent', async () => {
  await withFolder(async (folder) => {
    const first = await claimOwnership(folder);
    const error = await errorOf(claimOwnership(folder));
    assert.instance(error, MysqlServerError);
    assert.match(error.message, `process id ${process.pid} `);
    await first.release();
    await first.release();
    const second = await claimOwnership(folder);
    await first.release();
    assert.match((await errorOf(claimOwnership(folder))).message, 'in use');
    await second.release();
  });
});

test('a process that reuses the id of a dead owner is no owner', async () => {
  await withFolder(async (folder) => {
    const record = { pid: process.pid, startTime: 'before', released: false };
    await writeFile(join(folder, 'owner.7'), JSON.stringify(record));
    await (await claimOwnership(folder)).release();
    assert.ok((await readdir(folder)).includes('owner.8'));
  });
});

test('an owner file that a power cut has left empty is no lock', async () => {
  await withFolder(async (folder) => {
    await writeFile(join(folder, 'owner.3'), '');
    await (await claimOwnership(folder)).release();
  });
});

test('the number of owner files is bounded, and temporary ones are removed', async () => {
  await withFolder(async (folder) => {
    await writeFile(join(folder, 'owner-0000.partial'), '');
    for (let start = 0; start < 30; start += 1) await (await claimOwnership(folder)).release();
    const names = await readdir(folder);
    assert.ok(names.length <= 8, names.join(' '));
    assert.ok(names.includes('owner.30'));
  });
});

test.run();
