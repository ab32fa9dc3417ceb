/**
 * No promise rests on SKIP LOCKED, which only avoids waits: on a server that reads the clause and
 * neither locks nor skips a row, a batch of messages has one owner, and a count is moved once.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openConnection } from '../../src/db/connection.ts';
import type { Connection } from '../../src/db/connection.ts';
import { addSeconds, formatInstant, parseInstant } from '../../src/db/instant.ts';
import { ConnectionPool } from '../../src/db/pool.ts';
import { transaction } from '../../src/db/transaction.ts';
import { randomOwner } from '../../src/otp/crypto/random.ts';
import { Outbox } from '../../src/otp/delivery/outbox.ts';
import { createPolicies } from '../../src/otp/policy/policy.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { newSecretsText, newSweeper, secretsOf } from '../harness/service.ts';
import { createGate } from '../harness/waiting.ts';

const CLAUSE = /FOR UPDATE SKIP LOCKED/g;
const START = parseInstant('2026-01-05 08:00:00.000000');
const secrets = secretsOf(newSecretsText());
const policies = createPolicies();

let database: TestDatabase;
let pool: ConnectionPool;
/** How many statements with the clause have run, and what the next ones wait for afterwards. */
let stripped = 0;
let meeting: (() => Promise<void>) | null = null;

test.before(async () => {
  database = await createTestDatabase();
  const open = async (): Promise<Connection> =>
    withoutClause(database.clock.wrap(await openConnection(database.settings)));
  pool = new ConnectionPool(open, 4);
  database.clock.set(formatInstant(START));
});
test.after(() => {
  pool.close();
  database.close();
});

/** Takes the clause out of every statement. */
function withoutClause(connection: Connection): Connection {
  const afterwards = async <T>(sqls: readonly string[], rows: T): Promise<T> => {
    if (!sqls.some((sql) => sql.match(CLAUSE))) return rows;
    stripped += 1;
    await meeting?.();
    return rows;
  };
  return {
    ...connection,
    run: async (name, sql, values) => afterwards([sql],
      await connection.run(name, sql.replaceAll(CLAUSE, ''), values)),
    runAll: async (name, statements) => afterwards(statements.map(({ sql }) => sql),
      await connection.runAll(name, statements.map(({ sql, values }) =>
        ({ sql: sql.replaceAll(CLAUSE, ''), values })))),
  };
}

/** Lets both transactions read their rows before one of them goes on. */
function meetOfTwo(): () => Promise<void> {
  const gate = createGate();
  let arrived = 0;
  return async () => {
    arrived += 1;
    if (arrived === 2) gate.open();
    await gate.promise;
  };
}

const newOutbox = (): Outbox => new Outbox({ pool, policies, secrets, owner: randomOwner() });

async function insertBatches(count: number, leasedUntil: number): Promise<void> {
  for (let index = 0; index < count; index += 1) {
    await database.query(`INSERT INTO outbox (batch_id, otp_ids, key_id, sealed, owner,
      leased_until) VALUES (RANDOM_BYTES(8), '', 'k', '', RANDOM_BYTES(8), ?)`,
    [formatInstant(leasedUntil)]);
  }
}

test('two processes that find the same batches share them out', async () => {
  for (let round = 0; round < 10; round += 1) {
    await database.query('DELETE FROM outbox');
    await insertBatches(5, START);
    meeting = meetOfTwo();
    const both = await Promise.all([newOutbox().reclaim(50), newOutbox().reclaim(50)]);
    const ids = both.flatMap(({ batches }) => batches.map(({ batchId }) => batchId));
    assert.equal([ids.length, new Set(ids).size], [5, 5], 'each has one owner');
    assert.equal((await newOutbox().reclaim(50)).batches, []);
  }
  assert.ok(stripped >= 20);
});

test('two sweep steps that find the same row move its count once', async () => {
  for (let round = 0; round < 10; round += 1) {
    await database.query('DELETE FROM wrong_counts');
    await database.query(`INSERT INTO otps (user_id, number, purpose, otp_id, key_id, digest,
      code_digits, attempts_max, lock_seconds, created_at, expires_at, channel, batch_id,
      batch_number, remaining_requests, consecutive_wrong)
      VALUES (?, 1, 'login', RANDOM_BYTES(16), 'k', NULL, 6, 3, 600, ?, ?, 'sms',
        RANDOM_BYTES(8), 0, 2, 3)`,
    [`u${round}`, formatInstant(START), formatInstant(addSeconds(START, 300))]);
    database.clock.set(formatInstant(addSeconds(START, 87_000)));
    meeting = meetOfTwo();
    await Promise.all([0, 1].map(() => sweepOtps()));
    const counts = await database.query('SELECT consecutive_wrong AS n FROM wrong_counts');
    assert.equal(counts.map(({ n }) => n), [3]);
    assert.equal(await database.query('SELECT 1 FROM otps'), []);
    database.clock.set(formatInstant(START));
  }
});

/** Runs the step of a new process over the table otps. */
async function sweepOtps(): Promise<void> {
  const near = { batchId: '00'.repeat(8), userId: '', clientIp: '' };
  const sweeper = newSweeper({ secrets, policies });
  let step = sweeper.next(5000, near)!;
  while (step.inspect.name !== 'otps.inspect') step = sweeper.next(5000, near)!;
  await transaction(pool, async (tx) => {
    await tx.read(step.inspect);
    tx.riders.push(step);
  });
}

test('a lease that ends later than any can is short again, and is kept until it ends', async () => {
  meeting = null;
  for (const ahead of [3600, 4200, 3 * 365 * 86_400]) {
    await database.query('DELETE FROM outbox');
    await insertBatches(1, addSeconds(START, ahead + 20));
    database.clock.set(formatInstant(START));
    assert.equal((await newOutbox().reclaim(50)).batches, [], 'its owner may be sending');
    database.clock.set(formatInstant(addSeconds(START, 19)));
    assert.equal((await newOutbox().reclaim(50)).batches, []);
    database.clock.set(formatInstant(addSeconds(START, 20)));
    assert.is((await newOutbox().reclaim(50)).batches.length, 1);
  }
});

test.run();
