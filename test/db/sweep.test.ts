/** How much of a table a step of the sweep looks at. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openSession } from '../../src/db/session.ts';
import type { Session } from '../../src/db/session.ts';
import { Sweeper } from '../../src/db/sweep.ts';
import { SWEPT_TABLES } from '../../src/db/swept-tables.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';

const CODES = 10;
const NEAR = { bundleId: '00'.repeat(8), userId: 'U1', address: '' };
const LIVE_ROWS = 500;

/** Rows that a step looks at, for so many codes on every table in turn. */
const FULL = CODES * SWEPT_TABLES.length * 4;
const AT_EASE = CODES * SWEPT_TABLES.length;
const HEAD = 16;

let database: TestDatabase;
let session: Session;

test.before(async () => {
  database = await createTestDatabase();
  session = await openSession(database.settings);
});
test.after(() => {
  session.destroy();
  database.close();
});

/** One step on every table in turn; gives how many rows of each it may look at. */
async function goRound(sweeper: Sweeper): Promise<Record<string, number[]>> {
  const limits: Record<string, number[]> = {};
  for (let turn = 0; turn < SWEPT_TABLES.length; turn += 1) {
    const { inspect } = sweeper.next(CODES, NEAR)!;
    const limit = Number(/LIMIT (\d+)/.exec(inspect.sql)![1]);
    (limits[inspect.name] ??= []).push(limit);
    inspect.read(await session.run(inspect.name, inspect.sql, inspect.values));
  }
  // The keys are walked twice: where the oldest are, and all along.
  limits['idempotency_keys.inspect']!.sort((a, b) => a - b);
  await session.run('end', 'ROLLBACK', []);
  return limits;
}

test('where it meets no dead rows it looks at fewer, until it meets some', async () => {
  const values = Array.from({ length: LIVE_ROWS }, (_, index) => `('a${1000 + index}',0,NOW(6),1)`);
  await database.query(`INSERT INTO ip_rate_limits (address, slot, used_at, points)
    VALUES ${values.join(',')}`);
  const sweeper = new Sweeper();
  assert.equal(new Set(Object.values(await goRound(sweeper)).flat()), new Set([FULL]));
  const atEase = await goRound(sweeper);
  assert.equal(atEase['idempotency_keys.inspect'], [HEAD, AT_EASE]);
  assert.equal(atEase['ip_rate_limits.inspect'], [AT_EASE]);
  assert.equal(atEase['otps.inspect'], [AT_EASE]);

  // One that dies in each stretch of 50 rows is met by every step.
  await database.query(`UPDATE ip_rate_limits SET used_at = NOW(6) - INTERVAL 901 SECOND
    WHERE address LIKE 'a%50' OR address LIKE 'a%00'`);
  assert.equal((await goRound(sweeper))['ip_rate_limits.inspect'], [AT_EASE]);
  const met = await goRound(sweeper);
  assert.equal(met['ip_rate_limits.inspect'], [FULL]);
  assert.equal(met['otps.inspect'], [AT_EASE]);
});

test.run();
