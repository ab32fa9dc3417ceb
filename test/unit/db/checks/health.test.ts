/** How often the database is asked whether it can be worked on, and how long that may take. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DatabaseCheck } from '../../../../src/db/checks/health.ts';
import type { Row, Connection } from '../../../../src/db/connection.ts';
import { readSchemaFiles } from '../../../../src/db/migrate.ts';
import { ConnectionPool } from '../../../../src/db/pool.ts';
import { eventually, promptly, timed } from '../../../harness/waiting.ts';

const APPLIED = readSchemaFiles().map(({ version, name }) => ({ version, name, finished_at: 'x' }));

type Fake = { isHanging: boolean; looks: number; atOnce: number; most: number; destroyed: number };

function poolOf(fake: Fake): ConnectionPool {
  const open = async (): Promise<Connection> => {
    let isDestroyed = false;
    let breakOff = (): void => {};
    const run = async (name: string): Promise<Row[]> => {
      if (name === 'check.read_only') {
        fake.looks += 1;
        fake.atOnce += 1;
        fake.most = Math.max(fake.most, fake.atOnce);
        await new Promise<void>((resolve, reject) => {
          breakOff = () => reject(new Error('lost'));
          if (!fake.isHanging) setImmediate(resolve);
        }).finally(() => { fake.atOnce -= 1; });
        return [{ is_read_only: 0 }];
      }
      return name === 'schema_migrations.load' ? APPLIED : [];
    };
    const destroy = (): void => {
      if (!isDestroyed) fake.destroyed += 1;
      isDestroyed = true;
      breakOff();
    };
    return { run, runAll: async () => [], destroy, isDestroyed: () => isDestroyed };
  };
  return new ConnectionPool(open, 1);
}

function newFake(): Fake {
  return { isHanging: false, looks: 0, atOnce: 0, most: 0, destroyed: 0 };
}

test('however many ask at once, the database is asked once', async () => {
  const fake = newFake();
  const check = new DatabaseCheck(poolOf(fake));
  const answers = await Promise.all(Array.from({ length: 100 }, () => check.errors()));
  assert.equal(answers, answers.map(() => []));
  assert.is(fake.looks, 1);
});

test('however often they ask, it is asked a few times a second, one at a time', async () => {
  const fake = newFake();
  const check = new DatabaseCheck(poolOf(fake));
  const { ms } = await timed(() => eventually('it is asked again', async () => {
    assert.equal(await check.errors(), []);
    return fake.looks === 4;
  }));
  // The clock of the check and that of the test may differ by a millisecond each time.
  assert.ok(ms > 3 * 245, `${fake.looks} looks in ${ms} ms`);
  assert.is(fake.most, 1);
});

test('a database that hangs: an answer in time, and it is well again later', async () => {
  const fake = newFake();
  const check = new DatabaseCheck(poolOf(fake));
  fake.isHanging = true;
  const result = await promptly(() => Promise.all([check.errors(), check.errors()]));
  assert.equal(result, [['database'], ['database']]);
  assert.is(fake.destroyed, 1);
  fake.isHanging = false;
  await eventually('it is well', async () => (await check.errors()).length === 0);
});

test('no connection: an answer in time', async () => {
  const check = new DatabaseCheck(new ConnectionPool(() => new Promise(() => {}), 1));
  const result = await promptly(() => check.errors());
  assert.equal(result, ['database']);
});

test.run();
