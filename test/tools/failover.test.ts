/** npm run failover ends all that it has started, however it ends itself. */
import { readdirSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { childrenOf } from '../../bench/usage.ts';
import { startMark } from '../../tools/mysql/processes.ts';
import { endAll, start, until, withFolder } from '../harness/run.ts';
import { eventually } from '../harness/waiting.ts';

const FAILOVER = ['--import', 'tsx', 'test/failover/main.ts'];

/** A process and all that descend from it, with their start times. */
async function family(id: number): Promise<[number, string | undefined][]> {
  const below = await Promise.all(childrenOf(id).map(family));
  return [[id, await startMark(id)], ...below.flat()];
}

/** The folders of servers; tsx keeps a folder of its own. */
function foldersIn(folder: string): string[] {
  return readdirSync(folder).filter((name) => name.startsWith('otpd-'));
}

test('Ctrl-C ends the servers, their network and their data', async () => {
  await withFolder(async (folder) => {
    const run = start(['--only', 'kill'], { TMPDIR: folder }, FAILOVER);
    await until(run, () => run.output().includes('Three servers answer.'));
    const started = await family(run.child.pid!);
    assert.ok(started.length >= 4, `${started.length} processes`);
    assert.is(foldersIn(folder).length, 1);
    run.child.kill('SIGINT');
    assert.is(await run.ended, 1);
    assert.match(run.output(), /^stopped$/m);
    await eventually('all processes have ended', async () => {
      const marks = await Promise.all(started.map(([id]) => startMark(id)));
      return started.every(([, mark], index) => marks[index] !== mark);
    });
    assert.equal(foldersIn(folder), []);
  });
});

test('an error at the start leaves nothing', async () => {
  await withFolder(async (folder) => {
    const environment = { TMPDIR: folder, MYSQLD: '/nowhere/mysqld' };
    const run = start(['--only', 'kill'], environment, FAILOVER);
    assert.is(await run.ended, 1);
    assert.match(run.output(), /MYSQLD names \/nowhere\/mysqld/);
    assert.equal(foldersIn(folder), []);
  });
});

test.after(endAll);
test.run();
