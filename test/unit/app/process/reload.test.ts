/** Reloads: each part in turn, one reload at a time, and a fault in one part stops no other. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Reloads } from '../../../../src/app/process/reload.ts';
import type { ReloadEvent } from '../../../../src/app/process/reload.ts';
import { createGate, eventually } from '../../../harness/waiting.ts';

function startReloads(): { reloads: Reloads; notes: ReloadEvent[] } {
  const notes: ReloadEvent[] = [];
  return { reloads: new Reloads((note) => notes.push(note)), notes };
}

test('every part is reloaded, one after the other; a fault is told with its name', async () => {
  const { reloads, notes } = startReloads();
  const error = new Error('no file');
  let isDone = false;
  reloads.add('A', async () => { await null; isDone = true; });
  reloads.add('B', () => { throw error; });
  reloads.add('C', () => assert.ok(isDone));
  reloads.start();
  reloads.request();
  await eventually('three notes', () => notes.length === 3);
  assert.equal(notes, [{ event: 'reloaded', name: 'A' },
    { event: 'reload_failed', name: 'B', error }, { event: 'reloaded', name: 'C' }]);
});

test('requests during a reload lead to exactly one more', async () => {
  const { reloads, notes } = startReloads();
  const gate = createGate();
  let runs = 0;
  let running = 0;
  reloads.add('A', async () => {
    runs += 1;
    running += 1;
    assert.is(running, 1);
    await gate.promise;
    running -= 1;
  });
  reloads.start();
  for (let asked = 0; asked < 5; asked += 1) reloads.request();
  assert.is(runs, 1);
  gate.open();
  await eventually('two reloads', () => notes.length === 2);
  reloads.request();
  await eventually('a third one', () => notes.length === 3);
  assert.is(runs, 3);
});

test('a request that comes before all is registered is kept, and handed on', async () => {
  const { reloads, notes } = startReloads();
  let handed = 0;
  reloads.request();
  reloads.request();
  reloads.forwardTo(() => { handed += 1; });
  await null;
  assert.is(handed, 0);
  reloads.start();
  await eventually('it is handed on', () => handed === 1);
  assert.equal(notes, []);
});

test.run();
