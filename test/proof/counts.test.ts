/** The counters of the database layer on a real server: lost commits, deadlocks, expired rows. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { StatementError } from '../../src/db/errors.ts';
import { formatInstant, parseInstant } from '../../src/db/instant.ts';
import { dbFamilies, sweepFamilies } from '../../src/db/metrics.ts';
import type { ConnectionPool } from '../../src/db/pool.ts';
import { transaction } from '../../src/db/transaction.ts';
import type { Transaction } from '../../src/db/transaction.ts';
import { encodeFamilies } from '../../src/metrics/families.ts';
import type { Family } from '../../src/metrics/families.ts';
import { createPolicies } from '../../src/otp/policy/policy.ts';
import { createOtpService } from '../../src/otp/service.ts';
import { createTestDatabase } from '../harness/database.ts';
import { channelOf, createTestDelivery } from '../harness/delivery.ts';
import { parseExposition, valueOf } from '../harness/exposition.ts';
import { newSecretsText, newSweeper, secretsOf, SWEEP_PASSES } from '../harness/service.ts';
import { createGate, errorOf } from '../harness/waiting.ts';
import { query, createFixture, isCommit, rowsBy } from './tampered-connections.ts';
import type { Fixture } from './tampered-connections.ts';

const HOUR = 3_600_000_000;

let fixture: Fixture;
let pool: ConnectionPool;
let id = 0;

test.before(async () => { fixture = await createFixture(); });
test.before.each(() => { pool = fixture.pool(4); });
test.after.each(() => fixture.closePools());
test.after(() => fixture.database.close());

function value(families: Family[], name: string, labels: Record<string, string> = {}): number {
  return valueOf(parseExposition(encodeFamilies(families)), name, labels);
}

function ofPool(name: string, labels: Record<string, string> = {}): number {
  return value(dbFamilies(pool), name, labels);
}

async function insertNote(tx: Transaction): Promise<number> {
  id += 1;
  await query(tx, 'insertNote', 'INSERT INTO notes VALUES (?, ?)', [id, 'a']);
  return id;
}

/** Loses the response to the next COMMIT, which has or has not reached the server. */
function cutCommit(hasReached: boolean): void {
  let isDue = true;
  fixture.tamper(async (name, connection, proceed) => {
    if (!isDue || !isCommit(name)) return proceed();
    isDue = false;
    if (hasReached) await proceed();
    connection.destroy();
    throw new StatementError(name, 'CONNECTION_LOST', 0, 'connectionLost');
  });
}

test('commits without an answer are counted with their result', async () => {
  for (const hasReached of [true, false]) {
    cutCommit(hasReached);
    await transaction(pool, async (tx) => {
      const own = await insertNote(tx);
      tx.commitProbe({
        ...rowsBy('find', 'SELECT id FROM notes WHERE id = ? FOR UPDATE', [own]),
        read: (rows: readonly unknown[]) => rows.length === 1,
      });
    });
  }
  assert.is(ofPool('otpd_unanswered_commits_total'), 2);
  assert.is(ofPool('otpd_settled_commits_total', { result: 'committed' }), 1);
  assert.is(ofPool('otpd_settled_commits_total', { result: 'rolled_back' }), 1);
  assert.is(ofPool('otpd_transaction_retries_total'), 1);
  cutCommit(true);
  await errorOf(transaction(pool, insertNote));
  assert.is(ofPool('otpd_unanswered_commits_total'), 3);
  assert.is(ofPool('otpd_settled_commits_total', { result: 'committed' }), 1);
  assert.is(ofPool('otpd_deadlocks_total'), 0);
});

test('a deadlock, its retry and the busy connections are counted', async () => {
  fixture.tamper((_name, _session, proceed) => proceed());
  const [a, b] = [await transaction(pool, insertNote), await transaction(pool, insertNote)];
  const gates = [createGate(), createGate()];
  const lock = (tx: Transaction, which: number) =>
    query(tx, 'lock', 'SELECT id FROM notes WHERE id = ? FOR UPDATE', [which]);
  const cross = (mine: number, theirs: number, index: number) => transaction(pool, async (tx) => {
    await lock(tx, mine);
    gates[index]!.open();
    await gates[1 - index]!.promise;
    assert.ok(ofPool('otpd_pool_sessions', { state: 'busy' }) >= 1);
    await lock(tx, theirs);
  });
  await Promise.all([cross(a, b, 0), cross(b, a, 1)]);
  assert.is(ofPool('otpd_deadlocks_total'), 1);
  assert.is(ofPool('otpd_transaction_retries_total'), 1);
  assert.is(ofPool('otpd_pool_sessions', { state: 'busy' }), 0);
  assert.is(ofPool('otpd_pool_sessions', { state: 'idle' }), 2);
  assert.is(ofPool('otpd_pool_size'), 4);
});

test('removed rows are counted', async () => {
  const database = await createTestDatabase();
  const deps = { pool: database.pool, policies: createPolicies(),
    secrets: secretsOf(newSecretsText()) };
  const channels = [channelOf(() => ({ kind: 'accepted' }))];
  const delivery = createTestDelivery({ ...deps, channels });
  const sweeper = newSweeper();
  const service = createOtpService({ ...deps, delivery, sweeper });
  const start = parseInstant('2026-01-05 08:00:00.000000');
  const codes = async (count: number): Promise<void> => {
    for (let at = 0; at < count; at += 1) {
      id += 1;
      const names = { userId: `u${id}`, clientIp: `10.0.0.${id}`, key: `k${id}` };
      const asked = {
        ...names, clientNet48: null, purpose: 'login', acceptLanguage: '', apiClient: null,
      };
      await service.request(asked, () => true);
    }
  };
  database.clock.set(formatInstant(start));
  await codes(20);
  database.clock.set(formatInstant(start + 25 * HOUR));
  // The first sweep step starts at the newest rows, the next one at the oldest.
  await codes(600);
  const [row] = await database.query('SELECT COUNT(*) AS n FROM otps');
  const ofTable = (name: string) =>
    value(sweepFamilies(sweeper.counts), name, { table: 'otps' });
  assert.is(ofTable('otpd_swept_rows_total'), 620 - Number(row!.n));
  assert.is(ofTable('otpd_swept_rows_total'), 20);
  await delivery.stop(2000);
  database.close();
});

test('the age of the oldest expired row is that of the last pass', async () => {
  const database = await createTestDatabase();
  const start = parseInstant('2026-01-05 08:00:00.000000');
  const sweeper = newSweeper();
  const near = { batchId: '00'.repeat(8), userId: 'u', clientIp: '10.0.0.0' };
  // Passes over every table to its end. A pass that starts within a table needs a second step.
  const walk = async (): Promise<void> => {
    for (let turn = 0; turn < 2 * SWEEP_PASSES; turn += 1) {
      const sweep = sweeper.next(1000, near)!;
      await transaction(database.pool, async (tx) => { await tx.read(sweep.inspect); });
    }
  };
  const age = (table: string) =>
    value(sweepFamilies(sweeper.counts), 'otpd_oldest_dead_row_seconds', { table });
  await database.query('INSERT INTO ip_rate_overflow VALUES (?, ?, 1, 1)',
    ['10.0.0.1', formatInstant(start)]);
  database.clock.set(formatInstant(start + HOUR));
  await walk();
  assert.is(age('ip_rate_overflow'), 2700);
  assert.is(age('ip_rate_limits'), 0);
  await database.query('DELETE FROM ip_rate_overflow');
  await walk();
  assert.is(age('ip_rate_overflow'), 0);
  database.close();
});

test.run();
