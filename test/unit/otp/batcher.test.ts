import * as fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Unavailable } from '../../../src/db/errors.ts';
import { Batcher } from '../../../src/otp/batcher.ts';
import type { BatcherOptions } from '../../../src/otp/batcher.ts';
import { errorOf, eventually } from '../../harness/waiting.ts';

type Item = Readonly<{ id: number; subjects: readonly string[] }>;

/** A collector whose lists end when the test says so. */
function createFixture(changes: Partial<BatcherOptions<Item, string>> = {}) {
  const lists: { ids: number[]; end: () => void; fail: (error: unknown) => void }[] = [];
  const collector = new Batcher<Item, string>({
    run: (items) => new Promise((resolve, reject) => {
      lists.push({
        ids: items.map(({ id }) => id),
        end: () => resolve(items.map(({ id }) => `done ${id}`)),
        fail: reject,
      });
    }),
    lockKeysOf: ({ subjects }) => subjects,
    concurrencyMax: 2,
    batchMax: 4,
    backlogPerBatch: 3,
    waitingMax: 10,
    ...changes,
  });
  const ids = (): number[][] => lists.map((list) => list.ids);
  return { collector, lists, ids };
}

function item(id: number, ...subjects: string[]): Item {
  return { id, subjects: subjects.length === 0 ? [`s${id}`] : subjects };
}

/** Lets everything run that is due. */
async function turn(): Promise<void> {
  for (let i = 0; i < 4; i += 1) await new Promise((resolve) => { setImmediate(resolve); });
}

/**
 * Until one that waits alone for another list does so no longer: it has waited for a tick. False
 * when the machine was busy for so long that it has not been seen to wait.
 */
async function waitsUntilLate(): Promise<boolean> {
  const { collector, lists } = createFixture();
  const stuck = collector.submit(item(1));
  await turn();
  const lone = collector.submit(item(2));
  await turn();
  const hasWaited = lists.length === 1;
  await eventually('another lane opens', () => lists.length === 2);
  lists[1]?.end();
  assert.is(await lone, 'done 2');
  lists[0]?.end();
  await stuck;
  return hasWaited;
}

test('a lone item waits for nothing, and for nobody', async () => {
  const { collector, lists } = createFixture();
  const result = collector.submit(item(1));
  await turn();
  assert.equal(lists[0]?.ids, [1]);
  lists[0]?.end();
  assert.is(await result, 'done 1');
});

test('what comes together goes together; what comes later waits, up to the bound', async () => {
  const { collector, lists, ids } = createFixture({ concurrencyMax: 1 });
  const results = [1, 2].map((id) => collector.submit(item(id)));
  await turn();
  results.push(...[3, 4, 5, 6, 7].map((id) => collector.submit(item(id))));
  await turn();
  assert.equal(ids(), [[1, 2]]);
  lists[0]?.end();
  await turn();
  assert.equal(ids(), [[1, 2], [3, 4, 5, 6]]);
  lists[1]?.end();
  await turn();
  lists[2]?.end();
  assert.equal(await Promise.all(results), [1, 2, 3, 4, 5, 6, 7].map((id) => `done ${id}`));
});

test('another lane opens when enough wait, and not before', async () => {
  const { collector, lists, ids } = createFixture();
  const results = [1, 2, 3, 4].map((id) => collector.submit(item(id)));
  await turn();
  results.push(collector.submit(item(5)), collector.submit(item(6)));
  await turn();
  assert.equal(ids(), [[1, 2, 3, 4]]);
  results.push(collector.submit(item(7)));
  await turn();
  assert.equal(ids(), [[1, 2, 3, 4], [5, 6, 7]]);
  results.push(...[8, 9, 10].map((id) => collector.submit(item(id))));
  await turn();
  assert.is(lists.length, 2);
  lists[0]?.end();
  await turn();
  assert.equal(ids()[2], [8, 9, 10]);
  for (const list of lists) list.end();
  await Promise.all(results);
});

test('while few are about, their fair share opens another lane; one alone does not', async () => {
  const { collector, lists, ids } = createFixture({ backlogPerBatch: 100 });
  const results = [collector.submit(item(1))];
  await turn();
  results.push(collector.submit(item(2)));
  await turn();
  assert.equal(ids(), [[1]]);
  results.push(collector.submit(item(3)));
  await turn();
  assert.equal(ids(), [[1], [2, 3]]);
  for (const list of lists) list.end();
  await Promise.all(results);
});

test('no two lanes share a subject, and those behind keep their turn', async () => {
  const { collector, lists, ids } = createFixture({ backlogPerBatch: 1 });
  const results = [collector.submit(item(1, 'a', 'x'))];
  await turn();
  results.push(
    collector.submit(item(2, 'b', 'x')), // its x is under way
    collector.submit(item(3, 'b', 'y')), // behind 2, because of b
    collector.submit(item(4, 'c', 'y')), // behind 3, because of y
    collector.submit(item(5, 'd', 'z')),
  );
  await turn();
  assert.equal(ids(), [[1], [5]]);
  lists[1]?.end();
  await turn();
  assert.equal(ids(), [[1], [5]]);
  lists[0]?.end();
  await turn();
  assert.equal(ids(), [[1], [5], [2, 3, 4]]);
  lists[2]?.end();
  await Promise.all(results);
});

test('a list that is stuck is nobody else\'s affair, whoever waits behind it', async () => {
  const { collector, lists, ids } = createFixture({ concurrencyMax: 3, waitingMax: 100 });
  const stuck = collector.submit(item(1, 'x'));
  await turn();
  const behind = [2, 3, 4].map((id) => errorOf(collector.submit(item(id, 'x', 'y'))));
  await turn();
  const others = [5, 6, 7].map((id) => collector.submit(item(id)));
  await turn();
  assert.equal(ids(), [[1], [5, 6, 7]]);
  lists[1]?.end();
  assert.equal(await Promise.all(others), ['done 5', 'done 6', 'done 7']);
  await waitsUntilLate();
  // It waits behind those that wait behind the stuck one, until they have given up.
  const last = collector.submit(item(8, 'y'));
  for (const failure of await Promise.all(behind)) assert.instance(failure, Unavailable);
  await eventually('the one behind has its turn', () => lists.length === 3);
  lists[2]?.end();
  assert.is(await last, 'done 8');
  lists[0]?.end();
  assert.is(await stuck, 'done 1');
});

test('one alone waits for another list only until that is late', () =>
  eventually('it is seen to wait', waitsUntilLate));

test('a poisoned member fails alone', async () => {
  const runs: number[][] = [];
  const { collector } = createFixture({
    run: async (items) => {
      runs.push(items.map(({ id }) => id));
      if (items.some(({ id }) => id === 2)) throw new RangeError('poison');
      return items.map(({ id }) => `done ${id}`);
    },
  });
  const results = [1, 2, 3].map((id) => collector.submit(item(id)));
  assert.instance(await errorOf(results[1]!), RangeError);
  assert.equal([await results[0], await results[2]], ['done 1', 'done 3']);
  assert.equal(runs, [[1, 2, 3], [1], [2], [3]]);
});

test('when the database is away all members fail, and nothing is run again', async () => {
  const { collector, lists } = createFixture();
  const results = [1, 2].map((id) => errorOf(collector.submit(item(id))));
  await turn();
  const away = new Unavailable('away');
  lists[0]?.fail(away);
  assert.equal(await Promise.all(results), [away, away]);
  await turn();
  assert.is(lists.length, 1);
  const next = collector.submit(item(3));
  await turn();
  lists[1]?.end();
  assert.is(await next, 'done 3');
});

test('who waits too long is refused, and nothing happens for it later', async () => {
  const { collector, lists, ids } = createFixture({ concurrencyMax: 1 });
  const first = collector.submit(item(1));
  await turn();
  assert.instance(await errorOf(collector.submit(item(2))), Unavailable);
  lists[0]?.end();
  await first;
  await turn();
  assert.equal(ids(), [[1]]);
});

test('the line has a bound', async () => {
  const { collector, lists } = createFixture({ concurrencyMax: 1, waitingMax: 2 });
  const results = [collector.submit(item(1))];
  await turn();
  results.push(collector.submit(item(2)), collector.submit(item(3)));
  assert.instance(await errorOf(collector.submit(item(4))), Unavailable);
  lists[0]?.end();
  await turn();
  lists[1]?.end();
  await Promise.all(results);
});

test('a lane rests after a list for as long as it is told, and is busy meanwhile', async () => {
  let pauseMs = 300;
  const { collector, lists } = createFixture({ concurrencyMax: 1, pauseMs: () => pauseMs });
  const first = collector.submit(item(1));
  await turn();
  lists[0]?.end();
  await first;
  const second = collector.submit(item(2));
  await turn();
  assert.is(lists.length, 1, 'it rests');
  assert.ok(collector.isBusy);
  pauseMs = 0;
  await eventually('it has rested', () => lists.length === 2);
  lists[1]?.end();
  assert.is(await second, 'done 2');
  await turn();
  assert.not(collector.isBusy);
});

test('for a client that is gone nothing is done', async () => {
  const { collector, lists, ids } = createFixture({ concurrencyMax: 1 });
  const first = collector.submit(item(1));
  await turn();
  const gone = errorOf(collector.submit(item(2), () => false));
  const stays = collector.submit(item(3), () => true);
  lists[0]?.end();
  await turn();
  lists[1]?.end();
  assert.instance(await gone, Unavailable);
  assert.equal([await first, await stays], ['done 1', 'done 3']);
  assert.equal(ids(), [[1], [3]]);
});

test('each item once, no subject in two lanes, each subject in order of arrival', async () => {
  const items = fc.array(fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e'), {
    minLength: 1, maxLength: 2,
  }), { maxLength: 30 });
  const lanes = fc.integer({ min: 1, max: 3 });
  await fc.assert(fc.asyncProperty(items, lanes, lanes, async (subjects, concurrencyMax, backlog) =>
    {
    const under = new Set<string>();
    const seen = new Map<string, number>();
    const collector = new Batcher<Item, number>({
      run: async (list) => {
        const names = new Set(list.flatMap((member) => [...member.subjects]));
        for (const name of names) assert.not(under.has(name), `${name} is under way`);
        for (const name of names) under.add(name);
        for (const { id, subjects: own } of list) {
          for (const name of own) assert.ok(id > (seen.get(name) ?? -1), 'out of order');
          for (const name of own) seen.set(name, id);
        }
        await turn();
        for (const name of names) under.delete(name);
        return list.map(({ id }) => id);
      },
      lockKeysOf: (member) => member.subjects,
      concurrencyMax,
      batchMax: 5,
      backlogPerBatch: backlog,
      waitingMax: 100,
    });
    let arrivals = 0;
    const results = subjects.map(async (own, index) => {
      if (index % 7 === 6) await turn();
      arrivals += 1;
      const id = arrivals;
      assert.is(await collector.submit({ id, subjects: own }), id);
    });
    await Promise.all(results);
  }), { numRuns: 200 });
});

test.run();
