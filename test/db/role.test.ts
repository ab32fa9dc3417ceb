/** What otpd asks a server about itself, which must not wait for the group of that server. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readRole } from '../../src/db/checks/inspect.ts';
import { Deadline } from '../../src/db/clock.ts';
import type { Connection } from '../../src/db/connection.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { eventually } from '../harness/waiting.ts';

let database: TestDatabase;
let deadline: Deadline;

test.before(async () => {
  database = await createTestDatabase(2);
  deadline = new Deadline(60_000);
});
test.after(() => {
  deadline.clear();
  database.close();
});

/** How often the session has run a statement. */
async function countOf(connection: Connection, statement: string): Promise<number> {
  const [row] = await connection.run('x', `SHOW SESSION STATUS LIKE 'Com_${statement}'`, []);
  return Number(row?.Value);
}

// With group_replication_consistency = BEFORE the end of no transaction waits for a majority.
test('the question about the role ends no transaction', async () => {
  const connection = await database.pool.acquire(deadline);
  const before = await countOf(connection, 'rollback');
  assert.is((await readRole(connection)).hasQuorum, true);
  const after = await countOf(connection, 'rollback');
  database.pool.release(connection);
  assert.is(after, before);
});

test('the look for lost connections ends no transaction', async () => {
  const working = await database.pool.acquire(deadline);
  let looking: Connection | null = null;
  await eventually('the pool has looked', async () => {
    await working.run('x', 'DO SLEEP(1)', []);
    if (database.pool.idleCount === 0) return false;
    looking = await database.pool.acquire(deadline);
    const hasLooked = await countOf(looking, 'select') > 0;
    if (!hasLooked) database.pool.release(looking);
    return hasLooked;
  }).finally(() => database.pool.release(working));
  const rollbacks = await countOf(looking!, 'rollback');
  database.pool.release(looking!);
  assert.is(rollbacks, 0);
});

test.run();
