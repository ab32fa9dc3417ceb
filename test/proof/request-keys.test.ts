/** Idempotency keys of requests: the rows of codes hold them, and a key may outlive its code. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openConnection } from '../../src/db/connection.ts';
import type { Connection } from '../../src/db/connection.ts';
import { lockOtps } from '../../src/db/tables/otps.ts';
import { createPolicies, DEFAULT_POLICY } from '../../src/otp/policy/policy.ts';
import { closeClient, post, send } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { newSecretsText, secretsOf, startTestService } from '../harness/service.ts';
import type { TestService } from '../harness/service.ts';
import { fresh, freshAddress } from './load.ts';

const KEY_HOURS = 2;

let database: TestDatabase;
let service: TestService;

test.before(async () => {
  database = await createTestDatabase();
  const policies = createPolicies({ ...DEFAULT_POLICY, keyRetentionSeconds: KEY_HOURS * 3600 });
  const secrets = secretsOf(newSecretsText());
  service = await startTestService({ pool: database.pool, policies, secrets });
});
test.after(async () => {
  closeClient();
  await service.close();
  database.close();
});

function setClock(time: string): void {
  database.clock.set(`2026-01-05 ${time}`);
}

function request(user: string, key: string, purpose = 'login'): Promise<Reply> {
  const body = { user_id: user, purpose };
  return post({ port: service.port, path: '/otp/request', body, address: freshAddress(), key });
}

async function numbersOf(user: string): Promise<number[]> {
  const rows = await database.query(
    'SELECT number FROM otps WHERE user_id = ? ORDER BY number', [user]);
  return rows.map(({ number }) => number as number);
}

/** Counts the rows that are kept only for their keys. */
async function countKept(): Promise<number> {
  const [row] = await database.query('SELECT COUNT(*) AS n FROM otps WHERE user_id IS NULL');
  return Number(row!.n);
}

function assertReplay(reply: Reply, first: Reply): void {
  assert.is(reply.status, 201);
  assert.is(reply.text, first.text);
  assert.is(reply.headers['idempotent-replayed'], 'true');
}

test('a key still replays after its code has expired, and the code is unknown', async () => {
  setClock('08:00:00');
  const user = fresh('u');
  const [early, late] = [fresh('k'), fresh('k')];
  const first = await request(user, early);
  setClock('08:15:00');
  const second = await request(user, late);
  assert.equal(await numbersOf(user), [2]);
  assert.is(await countKept(), 1);
  assertReplay(await request(user, early), first);
  assertReplay(await request(user, late), second);
  assert.is((await request(user, early, 'pay')).status, 422);
  assert.is((await request(fresh('u'), early)).status, 422);
  const path = `/otp/${String(first.body.otp_id)}`;
  const status = await send({ port: service.port, path, method: 'GET' });
  assert.is(status.status, 404, 'the code is unknown');
  // The kept row counts for no limit: two more requests succeed.
  assert.is((await request(user, fresh('k'))).body.remaining_requests, 1);
  assert.is((await request(user, fresh('k'))).body.remaining_requests, 0);
  assert.is((await request(user, fresh('k'))).status, 429);
  assertReplay(await request(user, early), first);
});

test('numbers of codes continue from the remaining rows, without rows kept for keys', async () => {
  setClock('08:00:00');
  const user = fresh('u');
  const before = await countKept();
  for (const minutes of ['00', '15', '30', '45']) {
    setClock(`09:${minutes}:00`);
    assert.is((await request(user, fresh('k'))).status, 201);
  }
  assert.equal(await numbersOf(user), [4]);
  assert.is(await countKept(), before + 3);
});

test('the next code removes a row that is kept for an expired key', async () => {
  setClock('10:00:00');
  const user = fresh('u');
  const otpId = String((await request(user, fresh('k'))).body.otp_id);
  const rowsOfFirst = () => database.query('SELECT 1 FROM otps WHERE otp_id = UNHEX(?)', [otpId]);
  assert.is((await rowsOfFirst()).length, 1);
  setClock(`${10 + KEY_HOURS}:00:00`);
  await request(user, fresh('k'));
  assert.equal(await numbersOf(user), [2]);
  // Its own row alone: a step of the sweep may remove the expired rows of others as well.
  assert.is((await rowsOfFirst()).length, 0);
});

test('an expired key is free even while its row exists', async () => {
  setClock('12:00:00');
  const [one, other] = [fresh('u'), fresh('u')];
  const key = fresh('k');
  const first = await request(one, key);
  setClock(`${12 + KEY_HOURS - 1}:59:59.999999`);
  assert.is((await request(other, key)).status, 422);
  assertReplay(await request(one, key), first);
  setClock(`${12 + KEY_HOURS}:00:00`);
  const second = await request(other, key);
  assert.is(second.status, 201);
  assert.is.not(second.body.otp_id, first.body.otp_id);
  assertReplay(await request(other, key), second);
  assert.is((await request(one, key)).status, 422);
  const own = fresh('k');
  await request(one, own);
  setClock(`${12 + 2 * KEY_HOURS}:00:00`);
  assert.is((await request(one, own)).headers['idempotent-replayed'], undefined);
});

test('rows kept for keys are swept when the keys have expired', async () => {
  setClock('17:00:00');
  const users = Array.from({ length: 20 }, () => fresh('u'));
  await Promise.all(users.map((user) => request(user, fresh('k'))));
  setClock('17:15:00');
  await Promise.all(users.map((user) => request(user, fresh('k'))));
  assert.ok((await countKept()) >= users.length);
  setClock(`${17 + KEY_HOURS}:14:59`);
  // A request sweeps four rows, in steps of a thousand, starting with the newest.
  for (let list = 0; list < 12; list += 1) {
    const codes = await Promise.all(Array.from({ length: 50 }, () =>
      request(fresh('u'), fresh('k'))));
    assert.ok(codes.every(({ status }) => status === 201));
  }
  assert.is(await countKept(), 0);
  const left = await Promise.all(users.map((user) => numbersOf(user)));
  assert.ok(left.every((numbers) => String(numbers) === '2'), 'the other codes stay for a day');
});

test('locking the codes of a user does not lock those of others', async () => {
  setClock('20:00:00');
  const [a, b, c] = ['a', 'b', 'c'].map((name) => fresh(name)) as [string, string, string];
  await request(a, fresh('k'));
  await request(b, fresh('k'));
  const [holder, other] = await Promise.all([0, 1].map(() => openConnection(database.settings)));
  const lock = async (connection: Connection, user: string): Promise<number | string> => {
    const { name, sql, values } = lockOtps([user]);
    return connection.run(name, `${sql} NOWAIT`, values).then(({ length }) => length, String);
  };
  assert.is(await lock(holder!, b), 1);
  // Neighbours in the index: `a` has a code, `c` has none, and neither has a user between them.
  assert.equal(await Promise.all([a, `${a}a`, c].map((user) => lock(other!, user))), [1, 0, 0]);
  assert.match(await lock(other!, b) as string, /ER_LOCK_NOWAIT/);
  holder!.destroy();
  other!.destroy();
});

test('one of many users who send the same key at once gets it', async () => {
  setClock('21:00:00');
  for (let round = 0; round < 20; round += 1) {
    const keys = [fresh('k'), fresh('k'), fresh('k')];
    const replies = await Promise.all(Array.from({ length: 24 }, (_, index) =>
      request(fresh('u'), keys[index % keys.length]!)));
    const issued = replies.filter(({ status }) => status === 201);
    assert.is(issued.length, keys.length);
    assert.ok(replies.every(({ status }) => status === 201 || status === 422));
  }
});

test.run();
