/**
 * Days of load under a moved clock: expired rows are removed a few at a time, live rows never.
 *
 * The bound for two processes: a table holds at most its live rows, as many expired ones that
 * neither cursor has reached, and the rows that two processes add between two steps of one.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatInstant } from '../../src/db/instant.ts';
import { closeClient } from '../harness/client.ts';
import { countDeadlocks } from './tampered-connections.ts';
import { atOnce, fresh, newEndUser, startFleet, countByKind, wrongCode } from './load.ts';
import type { EndUser, Fleet } from './load.ts';

const FIRST_NOW = 1_767_600_000_000_000;
const HOUR = 3_600_000_000;
const BATCH = 50;
/**
 * The purge of a swept row may deadlock two users who return to it; their transactions are rerun.
 */
const DEADLOCKS_MAX = 10;
/**
 * A process sweeps a table once in 256 of its own codes, and one of two processes issues at least
 * every other code. A step comes a few batches late while other tables are due: the expired rows
 * that the bound allows besides are more than those. The bound holds in any phase of the two and
 * for any share of the codes.
 */
const STEP_ROWS = 512;

const LIVE = {
  otps: `key_expires_at > ? OR user_id IS NOT NULL
    AND created_at > ? - INTERVAL 87000 SECOND`,
  ip_rate_limits: 'used_at > ? - INTERVAL 900 SECOND',
  idempotency_keys: 'expires_at > ?',
} as const;
type Table = keyof typeof LIVE;
const TABLES = Object.keys(LIVE) as Table[];

let fleet: Fleet;
let now = FIRST_NOW;

test.before(async () => { fleet = await startFleet(2, 8); });
test.after(async () => {
  closeClient();
  await fleet.stop();
});

async function setClock(instant: number): Promise<void> {
  now = instant;
  await Promise.all(fleet.services.map((service) => service.setClock(formatInstant(now))));
}

async function countRows(table: Table, where = 'TRUE'): Promise<number> {
  const values = Array.from(where.matchAll(/\?/g), () => formatInstant(now));
  const [row] = await fleet.database.query(
    `SELECT COUNT(*) AS n FROM ${table} WHERE ${where.replaceAll('?', 'CAST(? AS DATETIME(6))')}`,
    values);
  return Number(row?.n);
}

/** Requests codes for new users, and redeems each with a key. */
async function load(codes: number): Promise<void> {
  for (let sent = 0; sent < codes; sent += BATCH) {
    const endUsers = Array.from({ length: BATCH }, newEndUser);
    const issued = await atOnce(BATCH, (index) => fleet.request(endUsers[index]!));
    assert.equal(countByKind(issued), { 201: BATCH });
    const redeemed = await atOnce(BATCH, async (index) => {
      const { code } = await fleet.messageOf(issued[index]!.body.otp_id);
      return fleet.verify(endUsers[index]!, code, fresh('k'));
    });
    assert.equal(countByKind(redeemed), { 200: BATCH });
  }
}

test('every table stays bounded by its live rows over days', async () => {
  const mostLive: Partial<Record<Table, number>> = {};
  for (let day = 0; day < 4; day += 1) {
    for (let hour = 0; hour < 24; hour += 6) {
      await setClock(FIRST_NOW + (day * 24 + hour) * HOUR);
      await load(150);
      for (const table of TABLES) {
        const live = await countRows(table, LIVE[table]);
        mostLive[table] = Math.max(mostLive[table] ?? 0, live);
        const bound = Math.ceil(mostLive[table]! * 2) + STEP_ROWS;
        const rows = await countRows(table);
        assert.ok(rows <= bound, `day ${day}, ${hour}:00, ${table}: ${rows} rows, bound ${bound}`);
      }
    }
  }
});

test('expired rows are removed a few at a time, and all of them in the end', async () => {
  // More rows than 50 requests can sweep, even if every step chose this table.
  await load(1500);
  await setClock(now + 25 * HOUR);
  const isExpired = (table: Table) => `NOT (${LIVE[table]})`;
  const before = await countRows('otps', isExpired('otps'));
  assert.ok(before >= 1500);
  await load(BATCH);
  const soon = await countRows('otps', isExpired('otps'));
  assert.ok(soon > 0, 'not all at once');
  // Each of two cursors sweeps four rows for each code of its process.
  for (let round = 0; round < 60; round += 1) await load(BATCH);
  for (const table of TABLES) {
    const left = await countRows(table, isExpired(table));
    assert.is(left, 0, `${table}: ${left} dead rows`);
  }
});

test('the sweep keeps the counts of the rows that it removes, and every live row', async () => {
  const guessers = await atOnce(10, () => guesser());
  const spent = await atOnce(10, () => redeemer());
  const key = fresh('k');
  const keeper = newEndUser();
  await setClock(now + 20 * HOUR);
  const first = await fleet.request(keeper, key);
  await setClock(now + 24 * HOUR - 1_000_000);
  // Each of two cursors sweeps four rows for each code of its process, so this load sweeps all
  // rows.
  await load(Math.ceil(await countRows('otps') / BATCH) * BATCH);
  const kept = await fleet.database.query('SELECT consecutive_wrong AS n FROM wrong_counts');
  assert.equal(kept.map(({ n }) => n), guessers.map(() => 2));
  assert.is((await fleet.request(keeper, key)).text, first.text, 'a key lives for 24 h');
  const gone = await atOnce(spent.length, async (index) => (await fleet.database.query(
    'SELECT 1 FROM otps WHERE user_id = ?', [spent[index]!.user])).length);
  assert.equal(gone, spent.map(() => 0), 'spent codes are forgotten');
});

async function guesser(): Promise<EndUser> {
  const endUser = newEndUser();
  const { body } = await fleet.request(endUser);
  const { code } = await fleet.messageOf(body.otp_id);
  for (const index of [0, 1]) await fleet.verify(endUser, wrongCode(code, index));
  return endUser;
}

async function redeemer(): Promise<EndUser> {
  const endUser = newEndUser();
  const { body } = await fleet.request(endUser);
  const { code } = await fleet.messageOf(body.otp_id);
  assert.is((await fleet.verify(endUser, code)).status, 200);
  return endUser;
}

test('the sweep does not disturb requests for the rows that it removes', async () => {
  const regulars = Array.from({ length: 200 }, newEndUser);
  const deadlocks = await countDeadlocks(fleet.database);
  for (let round = 0; round < 5; round += 1) {
    await setClock(now + 25 * HOUR);
    // Requests of other users sweep the expired rows of these users while they return.
    const replies = await atOnce(regulars.length, (index) => fleet.request(regulars[index]!));
    assert.equal(countByKind(replies), { 201: regulars.length });
  }
  const more = await countDeadlocks(fleet.database) - deadlocks;
  assert.ok(more <= DEADLOCKS_MAX, `${more} deadlocks in ${5 * regulars.length} requests`);
});

test.run();
