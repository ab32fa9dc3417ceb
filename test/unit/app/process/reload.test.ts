/** Reloads runs the registered reloads in order, one run at a time, and isolates their errors. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Reloads } from '../../../../src/app/process/reload.ts';
import type { ReloadEvent } from '../../../../src/app/process/reload.ts';
import { createGate, eventually } from '../../../harness/waiting.ts';

function startReloads(): { reloads: Reloads; events: ReloadEvent[] } {
  const events: ReloadEvent[] = [];
  return { reloads: new Reloads((event) => events.push(event)), events };
}

test('a request runs the reloads in order, and an error in one stops no other', async () => {
  const { reloads, events } = startReloads();
  const error = new Error('no file');
  let isDone = false;
  reloads.add('A', async () => { await null; isDone = true; });
  reloads.add('B', () => { throw error; });
  reloads.add('C', () => assert.ok(isDone));
  reloads.start();
  reloads.request();
  await eventually('three events', () => events.length === 3);
  assert.equal(events, [{ event: 'reloaded', name: 'A' },
    { event: 'reload_failed', name: 'B', error }, { event: 'reloaded', name: 'C' }]);
});

test('requests during a reload lead to exactly one more', async () => {
  const { reloads, events } = startReloads();
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
  await eventually('two reloads', () => events.length === 2);
  reloads.request();
  await eventually('a third one', () => events.length === 3);
  assert.is(runs, 3);
});

test('a request before the start is kept and forwarded', async () => {
  const { reloads, events } = startReloads();
  let handed = 0;
  reloads.request();
  reloads.request();
  reloads.forwardTo(() => { handed += 1; });
  await null;
  assert.is(handed, 0);
  reloads.start();
  await eventually('the request is forwarded', () => handed === 1);
  assert.equal(events, []);
});

test.run();
