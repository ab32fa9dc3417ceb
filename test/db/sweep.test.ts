/** How many rows of each table the step reads per issued OTP, and in which steps. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openConnection } from '../../src/db/connection.ts';
import type { Connection } from '../../src/db/connection.ts';
import type { Sweeper } from '../../src/db/sweep/sweeper.ts';
import type { SweepStep } from '../../src/db/sweep/sweeper.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { newSweeper, SWEEP_PASSES } from '../harness/service.ts';

const NEAR = { batchId: '00'.repeat(8), userId: 'U1', clientIp: '' };
const BATCH = 32;
const OTPS = 800 * BATCH;

/** Rows that may be due at either end of a run: a step of an empty table, and one batch. */
const LEEWAY = 4096 + 4 * BATCH * SWEEP_PASSES;
const STEP_ROWS = 1024;
const HEAD_ROWS = 16;

let database: TestDatabase;
let connection: Connection;

test.before(async () => {
  database = await createTestDatabase();
  connection = await openConnection(database.settings);
});
test.after(() => {
  connection.destroy();
  database.close();
});

async function runStep({ inspect: { name, sql, values, read } }: SweepStep): Promise<void> {
  read(await connection.run(name, sql, values));
}

function rowsOf(step: SweepStep): number {
  return Number(/LIMIT (\d+)/.exec(step.inspect.sql)![1]);
}

/** Runs one batch after the other. Returns the number of rows that each step on a table read. */
async function run(sweeper: Sweeper): Promise<(table: string) => number[]> {
  const rowsOfSteps: Record<string, number[]> = {};
  for (let otps = 0; otps < OTPS; otps += BATCH) {
    const step = sweeper.next(BATCH, NEAR);
    if (step === null) continue;
    (rowsOfSteps[step.inspect.name] ??= []).push(rowsOf(step));
    await runStep(step);
  }
  await connection.run('end', 'ROLLBACK', []);
  return (table) => rowsOfSteps[`${table}.inspect`]!;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

function assertPace(rows: readonly number[], rowsPerOtp: number): void {
  const difference = Math.abs(sum(rows) - rowsPerOtp * OTPS);
  assert.ok(difference <= LEEWAY, `${sum(rows)} rows for ${OTPS} OTPs`);
}

function isHead(rows: number): boolean {
  return rows === HEAD_ROWS;
}

test('a pass reads four rows per OTP, in steps of a thousand', async () => {
  await database.query(`INSERT INTO idempotency_keys (key_digest, fingerprint, key_id, otp_id,
    expires_at)
    VALUES (RANDOM_BYTES(16), '', '', '', NOW(6) + INTERVAL 600 SECOND)`);
  const rowsOfSteps = await run(newSweeper());
  for (const table of ['otps', 'ip_rate_limits', 'ip_rate_overflow', 'limit_hits']) {
    assertPace(rowsOfSteps(table), 4);
    assert.ok(Math.min(...rowsOfSteps(table)) >= STEP_ROWS, table);
  }
  // The first step starts within the table, the second and the third find it empty.
  assert.ok(rowsOfSteps('otps').slice(3).every((rows) => rows >= 4 * STEP_ROWS));
  const keys = rowsOfSteps('idempotency_keys');
  // The pass that finds nearly all expired keys reads heads; the one over all keys is slow.
  assertPace(keys.filter((rows) => !isHead(rows)), 0.5);
});

test('rows before the start of the first pass stay due', async () => {
  const users = ['U0', 'U1', 'U2', 'U3'].map((user) => `('${user}', 1, 1, NOW(6), 1, NULL)`);
  await database.query(`INSERT INTO limit_hits VALUES ${users.join(', ')}`);
  const sweeper = newSweeper();
  const steps: { rows: number; batch: number }[] = [];
  for (let batch = 0; steps.length < 2; batch += 1) {
    const step = sweeper.next(BATCH, NEAR);
    if (step === null) continue;
    await runStep(step);
    if (step.inspect.name === 'limit_hits.inspect') steps.push({ rows: rowsOf(step), batch });
  }
  await connection.run('end', 'ROLLBACK', []);
  await database.query('DELETE FROM limit_hits');
  const [first, second] = steps;
  // The pass starts at U1, so two of the four rows are before it.
  assert.is(second!.rows, first!.rows - 2 + 4 * BATCH * (second!.batch - first!.batch));
});

/** Runs one batch after the other until a step on the table. Returns its rows and the batches. */
async function runUntil(
  sweeper: Sweeper,
  table: string,
): Promise<{ rows: number; batches: number }> {
  for (let batches = 1; ; batches += 1) {
    const step = sweeper.next(BATCH, NEAR);
    if (step === null) continue;
    await runStep(step);
    await connection.run('end', 'ROLLBACK', []);
    if (step.inspect.name === `${table}.inspect`) return { rows: rowsOf(step), batches };
  }
}

test('rows that a head of expired rows leaves unread stay due', async () => {
  const table = 'idempotency_keys';
  await database.query('UPDATE idempotency_keys SET expires_at = NOW(6) + INTERVAL 600 SECOND');
  const sweeper = newSweeper();
  while (!isHead((await runUntil(sweeper, table)).rows));
  await database.query(`INSERT INTO idempotency_keys (key_digest, fingerprint, key_id, otp_id,
    expires_at) SELECT RANDOM_BYTES(16), '', '', '', NOW(6) FROM (VALUES
    ${Array.from({ length: HEAD_ROWS }, (_, index) => `ROW(${index})`).join(', ')}) AS numbers`);
  await database.query('UPDATE idempotency_keys SET expires_at = NOW(6)');

  // The slow pass may come between.
  let step = await runUntil(sweeper, table);
  while (!isHead(step.rows)) step = await runUntil(sweeper, table);
  const { rows, batches } = await runUntil(sweeper, table);
  await database.query('DELETE FROM idempotency_keys');
  assert.ok(rows >= STEP_ROWS - HEAD_ROWS, `${rows} rows`);
  assert.ok(batches <= SWEEP_PASSES, `after ${batches} batches`);
});

test('a table that is empty once is read again at the usual pace', async () => {
  const sweeper = newSweeper();
  // The first step starts within the table, the second finds it empty.
  for (const _ of [1, 2]) await runUntil(sweeper, 'limit_hits');
  await database.query(`INSERT INTO limit_hits VALUES ('U1', 1, 1, NOW(6), 1, NULL)`);
  const { batches } = await runUntil(sweeper, 'limit_hits');
  await database.query('DELETE FROM limit_hits');
  assert.ok(batches <= STEP_ROWS / (4 * BATCH) + SWEEP_PASSES, `after ${batches} batches`);
});

test('a step reads only the head of a table while its oldest row is live', async () => {
  await database.query(`INSERT INTO idempotency_keys (key_digest, fingerprint, key_id, otp_id,
    expires_at)
    VALUES (RANDOM_BYTES(16), '', '', '', NOW(6) + INTERVAL 600 SECOND)`);
  const sweeper = newSweeper();
  const heads = (await run(sweeper))('idempotency_keys').filter(isHead);
  assert.ok(heads.length >= (4 * OTPS - LEEWAY) / STEP_ROWS / 2, `${heads.length} steps`);

  // Once an oldest row has expired the next step reads as many rows as at first.
  await database.query('UPDATE idempotency_keys SET expires_at = NOW(6)');
  const later = (await run(sweeper))('idempotency_keys');
  assert.is(later.filter(isHead).length, 1);
  assertPace(later, 4.5);
});

test.run();
