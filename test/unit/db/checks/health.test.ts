/** How often the readiness check queries the database, and how long a check takes. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DatabaseCheck } from '../../../../src/db/checks/health.ts';
import type { Connection } from '../../../../src/db/connection.ts';
import { StatementError } from '../../../../src/db/errors.ts';
import type { Row } from '../../../../src/db/query.ts';
import { readSchemaFiles } from '../../../../src/db/migrate.ts';
import { ConnectionPool } from '../../../../src/db/pool.ts';
import { eventually, promptly, timed } from '../../../harness/waiting.ts';

const APPLIED = readSchemaFiles().map(({ version, name }) => ({ version, name, finished_at: 'x' }));

type Fake = {
  isHanging: boolean; checks: number; running: number; runningMax: number; destroyed: number;
  denials: number;
};

function createFakePool(fake: Fake): ConnectionPool {
  const open = async (): Promise<Connection> => {
    let isDestroyed = false;
    let abort = (): void => {};
    const run = async (name: string, sql: string): Promise<Row[]> => {
      if (name === 'check.settings') {
        fake.checks += 1;
        fake.running += 1;
        fake.runningMax = Math.max(fake.runningMax, fake.running);
        await new Promise<void>((resolve, reject) => {
          abort = () => reject(new Error('lost'));
          if (!fake.isHanging) setImmediate(resolve);
        }).finally(() => { fake.running -= 1; });
        return [{ Variable_name: 'group_replication_group_name', Value: 'a group' }];
      }
      if (name === 'primary.role') {
        if (!sql.includes('replication_group_members')) return [{ has_quorum: 1 }];
        fake.denials += 1;
        throw new StatementError(name, 'ER_TABLEACCESS_DENIED_ERROR', 1142, 'bug');
      }
      return name === 'schema_migrations.load' ? APPLIED : [];
    };
    const destroy = (): void => {
      if (!isDestroyed) fake.destroyed += 1;
      isDestroyed = true;
      abort();
    };
    const activity = { threadId: 0, isWaiting: false, sentAtMs: 0, heardAtMs: 0 };
    return { activity, run, runAll: async () => [], destroy, isDestroyed: () => isDestroyed };
  };
  return new ConnectionPool(open, 1);
}

function createFake(): Fake {
  return { isHanging: false, checks: 0, running: 0, runningMax: 0, destroyed: 0, denials: 0 };
}

test('concurrent callers share one check', async () => {
  const fake = createFake();
  const check = new DatabaseCheck(createFakePool(fake));
  const answers = await Promise.all(Array.from({ length: 100 }, () => check.errors()));
  assert.equal(answers, answers.map(() => []));
  assert.is(fake.checks, 1);
});

test('frequent calls run a few checks per second, one at a time', async () => {
  const fake = createFake();
  const check = new DatabaseCheck(createFakePool(fake));
  const { ms } = await timed(() => eventually('the database is checked again', async () => {
    assert.equal(await check.errors(), []);
    return fake.checks === 4;
  }));
  // The clock of the check and that of the test may differ by a millisecond each time.
  assert.ok(ms > 3 * 245, `${fake.checks} checks in ${ms} ms`);
  assert.is(fake.runningMax, 1);
});

test('an account that may not see the group asks for it only once', async () => {
  const fake = createFake();
  const check = new DatabaseCheck(createFakePool(fake));
  await eventually('the database is checked again', async () => {
    assert.equal(await check.errors(), []);
    return fake.checks === 2;
  });
  assert.is(fake.denials, 1);
});

test('a check of a hanging database answers in time, and a later check succeeds', async () => {
  const fake = createFake();
  const check = new DatabaseCheck(createFakePool(fake));
  fake.isHanging = true;
  const result = await promptly(() => Promise.all([check.errors(), check.errors()]));
  assert.equal(result, [['database'], ['database']]);
  assert.is(fake.destroyed, 2);
  fake.isHanging = false;
  await eventually('the database is healthy', async () => (await check.errors()).length === 0);
});

test('without a primary a check names the fault and asks nobody', async () => {
  const fake = createFake();
  const check = new DatabaseCheck(createFakePool(fake), null, () => 'split');
  assert.equal([await check.errors(), fake.checks], [['split'], 0]);
});

test('a check without a connection answers in time', async () => {
  const check = new DatabaseCheck(new ConnectionPool(() => new Promise(() => {}), 1));
  const result = await promptly(() => check.errors());
  assert.equal(result, ['database']);
});

test.run();
