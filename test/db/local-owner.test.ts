/** One owner per folder: races, takeovers, releases. */
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LocalServerError } from '../../src/db/local/local-server-error.ts';
import { claimOwnership } from '../../src/db/local/owner.ts';
import { failureOf, startOther, withFolder } from './local-fixture.ts';
import type { OtherProcess } from './local-fixture.ts';

const PROCESSES = 10;
const ROUNDS = 5;

async function raceOnce(others: readonly OtherProcess[]): Promise<string[]> {
  for (const other of others) other.tell('claim');
  return Promise.all(others.map((other) => other.line()));
}

test('of ten processes at once one is the owner, also when it replaces a dead one', async () => {
  await withFolder(async (folder) => {
    const others = Array.from({ length: PROCESSES }, () =>
      startOther('local-owner-child.ts', [folder]));
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

test('many claims within one process: one owner', async () => {
  await withFolder(async (folder) => {
    const claims = Array.from({ length: 20 }, () => claimOwnership(folder));
    const settled = await Promise.allSettled(claims);
    assert.is(settled.filter(({ status }) => status === 'fulfilled').length, 1);
  });
});

test('a second claim names the owner; after release, even twice, the folder is free', async () => {
  await withFolder(async (folder) => {
    const first = await claimOwnership(folder);
    const error = await failureOf(claimOwnership(folder));
    assert.instance(error, LocalServerError);
    assert.match(error.message, `process id ${process.pid} `);
    await first.release();
    await first.release();
    const second = await claimOwnership(folder);
    await first.release();
    assert.match((await failureOf(claimOwnership(folder))).message, 'in use');
    await second.release();
  });
});

test('a process id that was given to another process since is no owner', async () => {
  await withFolder(async (folder) => {
    const record = { pid: process.pid, startTime: 'before', released: false };
    await writeFile(join(folder, 'owner.7'), JSON.stringify(record));
    await (await claimOwnership(folder)).release();
    assert.ok((await readdir(folder)).includes('owner.8'));
  });
});

test('a record that a power cut left empty is no owner', async () => {
  await withFolder(async (folder) => {
    await writeFile(join(folder, 'owner.3'), '');
    await (await claimOwnership(folder)).release();
  });
});

test('owner files do not pile up, nor do those of killed takers', async () => {
  await withFolder(async (folder) => {
    await writeFile(join(folder, 'owner-0000.partial'), '');
    for (let start = 0; start < 30; start += 1) await (await claimOwnership(folder)).release();
    const names = await readdir(folder);
    assert.ok(names.length <= 8, names.join(' '));
    assert.ok(names.includes('owner.30'));
  });
});

test.run();
