/** How much of each table a sweep looks at, and how often. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openConnection } from '../../src/db/connection.ts';
import type { Connection } from '../../src/db/connection.ts';
import { sweptTables } from '../../src/db/sweep/expired-rows.ts';
import type { Sweeper } from '../../src/db/sweep/sweeper.ts';
import type { SweepStep } from '../../src/db/sweep/sweeper.ts';
import { RETENTION } from '../../src/otp/rules/lifecycle.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { newSweeper } from '../harness/service.ts';

const NEAR = { batchId: '00'.repeat(8), userId: 'U1', clientIp: '' };
const LIST = 32;
const CODES = 800 * LIST;

/** What is due when a run begins or ends: a step of an empty table, and the codes of a list. */
const LEEWAY = 4096 + 4 * LIST * sweptTables(RETENTION).length;
const STEP_ROWS = 1024;
const HEAD_ROWS = 16;

let database: TestDatabase;
let session: Connection;

test.before(async () => {
  database = await createTestDatabase();
  session = await openConnection(database.settings);
});
test.after(() => {
  session.destroy();
  database.close();
});

async function look({ inspect: { name, sql, values, read } }: SweepStep): Promise<void> {
  read(await session.run(name, sql, values));
}

/** How many rows a step looks at. */
function rowsOf(sweep: SweepStep): number {
  return Number(/LIMIT (\d+)/.exec(sweep.inspect.sql)![1]);
}

/** Lists of codes, one after the other; gives how many rows each step on a table looked at. */
async function run(sweeper: Sweeper): Promise<(table: string) => number[]> {
  const looks: Record<string, number[]> = {};
  for (let codes = 0; codes < CODES; codes += LIST) {
    const sweep = sweeper.next(LIST, NEAR);
    if (sweep === null) continue;
    (looks[sweep.inspect.name] ??= []).push(rowsOf(sweep));
    await look(sweep);
  }
  await session.run('end', 'ROLLBACK', []);
  return (table) => looks[`${table}.inspect`]!;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

/** Fails when it was not so many rows for each code. */
function hasPace(rows: readonly number[], rowsPerCode: number): void {
  const strayed = Math.abs(sum(rows) - rowsPerCode * CODES);
  assert.ok(strayed <= LEEWAY, `${sum(rows)} rows for ${CODES} codes`);
}

function isHead(rows: number): boolean {
  return rows === HEAD_ROWS;
}

test('every table is walked by four rows a code, in steps of a thousand', async () => {
  await database.query(`INSERT INTO idempotency_keys (key_digest, fingerprint, key_id, otp_id,
    expires_at)
    VALUES (RANDOM_BYTES(16), '', '', '', NOW(6) + INTERVAL 600 SECOND)`);
  const looks = await run(newSweeper());
  for (const table of ['otps', 'ip_rate_limits', 'ip_rate_overflow', 'limit_hits']) {
    hasPace(looks(table), 4);
    assert.ok(Math.min(...looks(table)) >= STEP_ROWS, table);
  }
  // The first step begins somewhere within a table, the second finds it empty.
  assert.ok(looks('otps').slice(2).every((rows) => rows >= 4 * STEP_ROWS));
  const keys = looks('idempotency_keys');
  hasPace(keys.filter((rows) => !isHead(rows)), 4);
});

test('what a walk that begins within a table does not look at stays due', async () => {
  const users = ['U0', 'U1', 'U2', 'U3'].map((user) => `('${user}', 1, 1, NOW(6), 1, NULL)`);
  await database.query(`INSERT INTO limit_hits VALUES ${users.join(', ')}`);
  const sweeper = newSweeper();
  const steps: { rows: number; list: number }[] = [];
  for (let list = 0; steps.length < 2; list += 1) {
    const sweep = sweeper.next(LIST, NEAR);
    if (sweep === null) continue;
    await look(sweep);
    if (sweep.inspect.name === 'limit_hits.inspect') steps.push({ rows: rowsOf(sweep), list });
  }
  await session.run('end', 'ROLLBACK', []);
  await database.query('DELETE FROM limit_hits');
  const [first, second] = steps;
  // It begins at U1, and two of the four lie behind it.
  assert.is(second!.rows, first!.rows - 2 + 4 * LIST * (second!.list - first!.list));
});

test('where the oldest keys live, a look at them is enough', async () => {
  const sweeper = newSweeper();
  const looks = (await run(sweeper))('idempotency_keys').filter(isHead);
  assert.ok(looks.length >= (4 * CODES - LEEWAY) / STEP_ROWS / 2, `${looks.length} looks`);

  // Once one of the oldest has died the next step looks at as many as at first.
  await database.query('UPDATE idempotency_keys SET expires_at = NOW(6)');
  const later = (await run(sweeper))('idempotency_keys');
  assert.is(later.filter(isHead).length, 1);
  hasPace(later, 8);
});

test('the keys behind them are hardly looked at where all are kept for one time', async () => {
  await database.query('UPDATE idempotency_keys SET expires_at = NOW(6) + INTERVAL 600 SECOND');
  let isVarious = false;
  const sweeper = newSweeper(() => isVarious);
  const behind = async (): Promise<number[]> =>
    (await run(sweeper))('idempotency_keys').filter((rows) => !isHead(rows));
  hasPace(await behind(), 0.5);
  isVarious = true;
  hasPace(await behind(), 4);
});

test.run();
