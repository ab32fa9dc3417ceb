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

/** Rows that a step looks at, for so many codes on every table in turn. */
const FULL = CODES * SWEPT_TABLES.length * 4;
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

test('where the oldest live, only they are looked at; all else is walked as ever', async () => {
  const sweeper = new Sweeper();
  assert.equal(new Set(Object.values(await goRound(sweeper)).flat()), new Set([FULL]));
  await database.query(`INSERT INTO idempotency_keys (key_digest, fingerprint, otp_id, expires_at)
    VALUES (RANDOM_BYTES(16), '', '', NOW(6) + INTERVAL 60 SECOND)`);
  const limits = await goRound(sweeper);
  assert.equal(limits['idempotency_keys.inspect'], [HEAD, FULL]);
  delete limits['idempotency_keys.inspect'];
  assert.equal(new Set(Object.values(limits).flat()), new Set([FULL]));

  // Once one of the oldest has died the next step looks at as many as at first.
  await database.query('UPDATE idempotency_keys SET expires_at = NOW(6)');
  assert.equal((await goRound(sweeper))['idempotency_keys.inspect'], [HEAD, FULL]);
  assert.equal((await goRound(sweeper))['idempotency_keys.inspect'], [FULL, FULL]);
});

test.run();
