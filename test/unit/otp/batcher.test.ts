import * as fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Unavailable } from '../../../src/db/errors.ts';
import { Batcher } from '../../../src/otp/batcher.ts';
import type { BatcherOptions } from '../../../src/otp/batcher.ts';
import { errorOf, eventually } from '../../harness/waiting.ts';

type Item = Readonly<{ id: number; lockKeys: readonly string[] }>;

/** A batcher whose batches end when the test ends them. */
function createFixture(changes: Partial<BatcherOptions<Item, string>> = {}) {
  const batches: { ids: number[]; end: () => void; fail: (error: unknown) => void }[] = [];
  const batcher = new Batcher<Item, string>({
    run: (items) => new Promise((resolve, reject) => {
      batches.push({
        ids: items.map(({ id }) => id),
        end: () => resolve(items.map(({ id }) => `done ${id}`)),
        fail: reject,
      });
    }),
    lockKeysOf: ({ lockKeys }) => lockKeys,
    concurrencyMax: 2,
    batchMax: 4,
    backlogPerBatch: 3,
    waitingMax: 10,
    ...changes,
  });
  const ids = (): number[][] => batches.map((batch) => batch.ids);
  return { batcher, batches, ids };
}

function item(id: number, ...lockKeys: string[]): Item {
  return { id, lockKeys: lockKeys.length === 0 ? [`s${id}`] : lockKeys };
}

/** Runs the immediates that are due. */
async function turn(): Promise<void> {
  for (let i = 0; i < 4; i += 1) await new Promise((resolve) => { setImmediate(resolve); });
}

/**
 * Lets a single item wait until the batch in flight is late. Returns false when the machine was too
 * busy to see the item wait.
 */
async function waitsUntilLate(): Promise<boolean> {
  const { batcher, batches } = createFixture();
  const stuck = batcher.submit(item(1));
  await turn();
  const lone = batcher.submit(item(2));
  await turn();
  const hasWaited = batches.length === 1;
  await eventually('another batch starts', () => batches.length === 2);
  batches[1]?.end();
  assert.is(await lone, 'done 2');
  batches[0]?.end();
  await stuck;
  return hasWaited;
}

test('a lone item does not wait', async () => {
  const { batcher, batches } = createFixture();
  const result = batcher.submit(item(1));
  await turn();
  assert.equal(batches[0]?.ids, [1]);
  batches[0]?.end();
  assert.is(await result, 'done 1');
});

test('items that arrive together form a batch, and later items wait, up to the bound', async () => {
  const { batcher, batches, ids } = createFixture({ concurrencyMax: 1 });
  const results = [1, 2].map((id) => batcher.submit(item(id)));
  await turn();
  results.push(...[3, 4, 5, 6, 7].map((id) => batcher.submit(item(id))));
  await turn();
  assert.equal(ids(), [[1, 2]]);
  batches[0]?.end();
  await turn();
  assert.equal(ids(), [[1, 2], [3, 4, 5, 6]]);
  batches[1]?.end();
  await turn();
  batches[2]?.end();
  assert.equal(await Promise.all(results), [1, 2, 3, 4, 5, 6, 7].map((id) => `done ${id}`));
});

test('another batch starts when enough items wait, and not before', async () => {
  const { batcher, batches, ids } = createFixture();
  const results = [1, 2, 3, 4].map((id) => batcher.submit(item(id)));
  await turn();
  results.push(batcher.submit(item(5)), batcher.submit(item(6)));
  await turn();
  assert.equal(ids(), [[1, 2, 3, 4]]);
  results.push(batcher.submit(item(7)));
  await turn();
  assert.equal(ids(), [[1, 2, 3, 4], [5, 6, 7]]);
  results.push(...[8, 9, 10].map((id) => batcher.submit(item(id))));
  await turn();
  assert.is(batches.length, 2);
  batches[0]?.end();
  await turn();
  assert.equal(ids()[2], [8, 9, 10]);
  for (const batch of batches) batch.end();
  await Promise.all(results);
});

test('a fair share of few items starts another batch, but a single item does not', async () => {
  const { batcher, batches, ids } = createFixture({ backlogPerBatch: 100 });
  const results = [batcher.submit(item(1))];
  await turn();
  results.push(batcher.submit(item(2)));
  await turn();
  assert.equal(ids(), [[1]]);
  results.push(batcher.submit(item(3)));
  await turn();
  assert.equal(ids(), [[1], [2, 3]]);
  for (const batch of batches) batch.end();
  await Promise.all(results);
});

test('no two batches share a lock key, and blocked items keep their order', async () => {
  const { batcher, batches, ids } = createFixture({ backlogPerBatch: 1 });
  const results = [batcher.submit(item(1, 'a', 'x'))];
  await turn();
  results.push(
    batcher.submit(item(2, 'b', 'x')), // its x is under way
    batcher.submit(item(3, 'b', 'y')), // behind 2, because of b
    batcher.submit(item(4, 'c', 'y')), // behind 3, because of y
    batcher.submit(item(5, 'd', 'z')),
  );
  await turn();
  assert.equal(ids(), [[1], [5]]);
  batches[1]?.end();
  await turn();
  assert.equal(ids(), [[1], [5]]);
  batches[0]?.end();
  await turn();
  assert.equal(ids(), [[1], [5], [2, 3, 4]]);
  batches[2]?.end();
  await Promise.all(results);
});

test('a stuck batch holds up only the items that wait for its lock keys', async () => {
  const { batcher, batches, ids } = createFixture({ concurrencyMax: 3, waitingMax: 100 });
  const stuck = batcher.submit(item(1, 'x'));
  await turn();
  const behind = [2, 3, 4].map((id) => errorOf(batcher.submit(item(id, 'x', 'y'))));
  await turn();
  const others = [5, 6, 7].map((id) => batcher.submit(item(id)));
  await turn();
  assert.equal(ids(), [[1], [5, 6, 7]]);
  batches[1]?.end();
  assert.equal(await Promise.all(others), ['done 5', 'done 6', 'done 7']);
  await waitsUntilLate();
  // Waits behind items that wait behind the stuck one, until those items give up.
  const last = batcher.submit(item(8, 'y'));
  for (const failure of await Promise.all(behind)) assert.instance(failure, Unavailable);
  await eventually('the one behind has its turn', () => batches.length === 3);
  batches[2]?.end();
  assert.is(await last, 'done 8');
  batches[0]?.end();
  assert.is(await stuck, 'done 1');
});

test('a single item waits for another batch only until that batch is late', () =>
  eventually('the item waits', waitsUntilLate));

test('an item with an error fails alone', async () => {
  const runs: number[][] = [];
  const { batcher } = createFixture({
    run: async (items) => {
      runs.push(items.map(({ id }) => id));
      if (items.some(({ id }) => id === 2)) throw new RangeError('poison');
      return items.map(({ id }) => `done ${id}`);
    },
  });
  const results = [1, 2, 3].map((id) => batcher.submit(item(id)));
  assert.instance(await errorOf(results[1]!), RangeError);
  assert.equal([await results[0], await results[2]], ['done 1', 'done 3']);
  assert.equal(runs, [[1, 2, 3], [1], [2], [3]]);
});

test('all items of a batch fail without a rerun while the database is unavailable', async () => {
  const { batcher, batches } = createFixture();
  const results = [1, 2].map((id) => errorOf(batcher.submit(item(id))));
  await turn();
  const away = new Unavailable('away');
  batches[0]?.fail(away);
  assert.equal(await Promise.all(results), [away, away]);
  await turn();
  assert.is(batches.length, 1);
  const next = batcher.submit(item(3));
  await turn();
  batches[1]?.end();
  assert.is(await next, 'done 3');
});

test('an item that waits too long is refused and never run', async () => {
  const { batcher, batches, ids } = createFixture({ concurrencyMax: 1 });
  const first = batcher.submit(item(1));
  await turn();
  assert.instance(await errorOf(batcher.submit(item(2))), Unavailable);
  batches[0]?.end();
  await first;
  await turn();
  assert.equal(ids(), [[1]]);
});

test('the queue has a bound', async () => {
  const { batcher, batches } = createFixture({ concurrencyMax: 1, waitingMax: 2 });
  const results = [batcher.submit(item(1))];
  await turn();
  results.push(batcher.submit(item(2)), batcher.submit(item(3)));
  assert.instance(await errorOf(batcher.submit(item(4))), Unavailable);
  batches[0]?.end();
  await turn();
  batches[1]?.end();
  await Promise.all(results);
});

test('a batcher pauses after a batch for the given time and is busy meanwhile', async () => {
  let pauseMs = 300;
  const { batcher, batches } = createFixture({ concurrencyMax: 1, pauseMs: () => pauseMs });
  const first = batcher.submit(item(1));
  await turn();
  batches[0]?.end();
  await first;
  const second = batcher.submit(item(2));
  await turn();
  assert.is(batches.length, 1, 'it rests');
  assert.ok(batcher.isBusy);
  pauseMs = 0;
  await eventually('it has rested', () => batches.length === 2);
  batches[1]?.end();
  assert.is(await second, 'done 2');
  await turn();
  assert.not(batcher.isBusy);
});

test('an item of a disconnected client is not run', async () => {
  const { batcher, batches, ids } = createFixture({ concurrencyMax: 1 });
  const first = batcher.submit(item(1));
  await turn();
  const gone = errorOf(batcher.submit(item(2), () => false));
  const stays = batcher.submit(item(3), () => true);
  batches[0]?.end();
  await turn();
  batches[1]?.end();
  assert.instance(await gone, Unavailable);
  assert.equal([await first, await stays], ['done 1', 'done 3']);
  assert.equal(ids(), [[1], [3]]);
});

test('each item runs once, and items with a common lock key run in order of arrival', async () => {
  const items = fc.array(fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e'), {
    minLength: 1, maxLength: 2,
  }), { maxLength: 30 });
  const counts = fc.integer({ min: 1, max: 3 });
  const sizes = [items, counts, counts] as const;
  await fc.assert(fc.asyncProperty(...sizes, async (lockKeys, concurrencyMax, backlog) => {
    const under = new Set<string>();
    const seen = new Map<string, number>();
    const batcher = new Batcher<Item, number>({
      run: async (batch) => {
        const names = new Set(batch.flatMap((member) => [...member.lockKeys]));
        for (const name of names) assert.not(under.has(name), `${name} is in flight`);
        for (const name of names) under.add(name);
        for (const { id, lockKeys: own } of batch) {
          for (const name of own) assert.ok(id > (seen.get(name) ?? -1), 'out of order');
          for (const name of own) seen.set(name, id);
        }
        await turn();
        for (const name of names) under.delete(name);
        return batch.map(({ id }) => id);
      },
      lockKeysOf: (member) => member.lockKeys,
      concurrencyMax,
      batchMax: 5,
      backlogPerBatch: backlog,
      waitingMax: 100,
    });
    let arrivals = 0;
    const results = lockKeys.map(async (own, index) => {
      if (index % 7 === 6) await turn();
      arrivals += 1;
      const id = arrivals;
      assert.is(await batcher.submit({ id, lockKeys: own }), id);
    });
    await Promise.all(results);
  }), { numRuns: 200 });
});

test.run();
