/** Faults between the service and a durable MySQL: every response is bounded and true. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { startServiceProcess } from '../harness/processes.ts';
import { newSecretsText } from '../harness/service.ts';
import { openConnection } from '../../src/db/connection.ts';
import type { Connection } from '../../src/db/connection.ts';
import { startCuttingProxy } from './cutting-proxy.ts';
import type { CommitFault, CuttingProxy } from './cutting-proxy.ts';
import { startDurableServer } from './durable-server.ts';
import type { DurableServer } from './durable-server.ts';
import { atOnce, createFleet, decided, fresh, newEndUser, countByKind } from './load.ts';
import type { EndUser, Fleet } from './load.ts';
import { eventually, promptly } from '../harness/waiting.ts';

const CONNECTIONS_MAX = 4;

/** A lease has 20 s, and a busy machine adds seconds to the one that a message may take. */
const SENT_MAX_MS = 10_000;

let server: DurableServer;
let proxy: CuttingProxy;
let fleet: Fleet;

test.before(async () => {
  server = await startDurableServer();
  proxy = await startCuttingProxy(server.settings.socketPath!, server.path('proxy.sock'));
  const settings = { ...server.settings, socketPath: proxy.socketPath };
  const secrets = newSecretsText();
  fleet = createFleet(server.database, [
    await startServiceProcess({ settings, secrets, connectionsMax: CONNECTIONS_MAX }),
  ]);
});
test.after.each(async () => {
  proxy.setMode('pass');
  await eventually('no connection is left over', async () =>
    (await countConnections()) <= CONNECTIONS_MAX);
});
test.after(async () => {
  closeClient();
  await Promise.all(fleet.services.map((service) => service.stop()));
  await proxy.close();
  await server.stop();
});

/**
 * Connections of the service that the server knows, including those that the service has given up.
 */
async function countConnections(): Promise<number> {
  const [row] = await server.database.query(`SELECT COUNT(*) AS n FROM
    information_schema.processlist WHERE db = ? AND id <> CONNECTION_ID()`,
  [server.settings.database]);
  return Number(row?.n);
}

/** The response of docs/api.md, "Errors". */
function assertUnavailable({ status, text, headers }: Reply): void {
  assert.is(`${status} ${text}`, '503 {"error":"unavailable"}');
  assert.match(String(headers['retry-after']), /^[1-9]\d*$/);
}

async function recovers(): Promise<void> {
  await eventually('it works again', async () =>
    (await promptly(() => fleet.request(newEndUser()))).status === 201);
}

/** What the tables hold for a user: codes, and keys. */
async function accountOf(user: string, otpId: unknown): Promise<number[]> {
  const [row] = await server.database.query(`SELECT
    (SELECT COUNT(*) FROM otps WHERE user_id = ?) AS codes,
    (SELECT COUNT(*) FROM otps WHERE otp_id = UNHEX(?) AND key_digest IS NOT NULL) AS answers`,
  [user, String(otpId)]);
  return [Number(row?.codes), Number(row?.answers)];
}

const FAULTS: CommitFault[] = ['cut before', 'cut after', 'silent before', 'silent after'];

for (const fault of FAULTS) {
  test(`a request whose COMMIT is ${fault} gets 201 or 503, and a repeat gets 201`,
    async () => {
      const endUser = newEndUser();
      const key = fresh('k');
      proxy.spoilCommit(fault);
      const first = await promptly(() => fleet.request(endUser, key));
      proxy.assertHit();
      if (fault.startsWith('cut')) assert.is(first.status, 201);
      if (first.status !== 201) assertUnavailable(first);
      const second = await promptly(() => fleet.request(endUser, key));
      assert.is(second.status, 201);
      if (first.status === 201) {
        assert.is(second.text, first.text);
        assert.is(second.headers['idempotent-replayed'], 'true');
        await fleet.messageOf(first.body.otp_id);
      }
      assert.equal(await accountOf(endUser.user, second.body.otp_id), [1, 1]);
      // After a 503 that was committed, nobody knows the code, and the user requests another one.
      const sent = fleet.messagesTo(endUser.user).length;
      assert.ok(sent === 1 || (sent === 0 && first.status === 503), `${sent} messages`);
    });

  test(`a right code whose COMMIT is ${fault} gets 200 or 503, and a repeat gets 200`,
    async () => {
      const { endUser, code } = await issued();
      const key = fresh('v');
      proxy.spoilCommit(fault);
      const first = await promptly(() => fleet.verify(endUser, code, key));
      proxy.assertHit();
      if (fault.startsWith('cut')) assert.is(first.status, 200);
      if (first.status !== 200) assertUnavailable(first);
      assert.is((await promptly(() => fleet.verify(endUser, code, key))).status, 200);
      assert.is((await promptly(() => fleet.verify(endUser, code))).status, 410);
    });

  test(`a wrong code whose COMMIT is ${fault} counts once or gets a 503`, async () => {
    const { endUser, code } = await issued();
    const wrong = code === '000000' ? '000001' : '000000';
    proxy.spoilCommit(fault);
    const first = await promptly(() => fleet.verify(endUser, wrong));
    proxy.assertHit();
    if (fault.startsWith('cut')) assert.is(first.body.attempts_remaining, 2);
    if (first.status === 401) {
      assert.is((await fleet.verify(endUser, wrong)).body.attempts_remaining, 1);
    } else assertUnavailable(first);
  });
}

async function issued(): Promise<{ endUser: EndUser; code: string }> {
  const endUser = newEndUser();
  const { status, body } = await decided(() => fleet.request(endUser));
  assert.is(status, 201);
  return { endUser, code: (await fleet.messageOf(body.otp_id)).code };
}

test('requests on killed connections succeed or can be repeated, and counts are exact',
  async () => {
    const endUsers = Array.from({ length: 60 }, newEndUser);
    let isOver = false;
    const killer = killConnections(() => isOver);
    const replies = await atOnce(endUsers.length, async (index) => {
      const endUser = endUsers[index]!;
      return promptly(() => fleet.request(endUser, `killed-${endUser.user}`));
    });
    isOver = true;
    await killer;
    for (const [index, endUser] of endUsers.entries()) {
      const again = await decided(() => fleet.request(endUser, `killed-${endUser.user}`));
      assert.is(again.status, 201);
      if (replies[index]?.status === 201) assert.is(again.text, replies[index]?.text);
      assert.equal(await accountOf(endUser.user, again.body.otp_id), [1, 1]);
    }
  });

/** Kills connections of the service while they run a statement, COMMIT included. */
async function killConnections(isOver: () => boolean): Promise<void> {
  const connection = await openConnection(server.settings);
  let kills = 0;
  while (!isOver() && kills < 12) {
    const rows = await connection.run('list', `SELECT id FROM information_schema.processlist
      WHERE id <> CONNECTION_ID() AND db = ? AND command = 'Query' LIMIT 1`,
    [server.settings.database]);
    for (const { id } of rows) {
      kills += 1;
      await connection.run('kill', `KILL CONNECTION ${Number(id)}`, []).catch(() => {});
    }
  }
  connection.destroy();
}

test('requests get 503 while MySQL refuses connections, and succeed afterwards', async () => {
  await recovers();
  proxy.setMode('closed');
  const replies = await atOnce(12, (index) => promptly(() =>
    (index % 2 === 0 ? fleet.request(newEndUser()) : fleet.verify(newEndUser(), '123456'))));
  replies.forEach(assertUnavailable);
  proxy.setMode('pass');
  await recovers();
});

test('requests get 503 while MySQL never answers, and succeed afterwards', async () => {
  await recovers();
  proxy.setMode('silent');
  // The first round uses open connections, the second one new connections; both exceed the pool.
  for (const round of [1, 2]) {
    const replies = await atOnce(12, () => promptly(() => fleet.request(newEndUser())));
    replies.forEach(assertUnavailable);
    assert.ok(round);
  }
  proxy.setMode('pass');
  await recovers();
});

test('a request gets 503 when MySQL stops answering at its COMMIT', async () => {
  await recovers();
  // The erasure of an earlier message would be the next COMMIT.
  await eventually('no message waits', async () =>
    (await server.database.query('SELECT 1 FROM outbox')).length === 0);
  const endUser = newEndUser();
  const key = fresh('k');
  proxy.spoilCommit('silent after', () => proxy.setMode('silent'));
  const first = await promptly(() => fleet.request(endUser, key));
  proxy.assertHit();
  assertUnavailable(first);
  proxy.setMode('pass');
  await recovers();
  const again = await fleet.request(endUser, key);
  assert.is(again.status, 201);
  assert.is(again.headers['idempotent-replayed'], 'true');
  await eventually('the message is sent before the lease ends',
    () => fleet.messagesTo(endUser.user).length === 1, SENT_MAX_MS);
  assert.equal(await accountOf(endUser.user, again.body.otp_id), [1, 1]);
});

test('requests for a row that another connection locks get 503 and use nothing', async () => {
  const { endUser } = await issued();
  const holder = await openConnection(server.settings);
  await holder.run('x', 'SELECT 1 FROM otps WHERE user_id = ? FOR UPDATE', [endUser.user]);
  const key = fresh('k');
  const replies = await Promise.all([
    promptly(() => fleet.request(endUser, key)), promptly(() => fleet.verify(endUser, '123456')),
  ]);
  replies.forEach(assertUnavailable);
  holder.destroy();
  await recovers();
  assert.is((await fleet.request(endUser, key)).body.remaining_requests, 1, 'nothing was used');
});

test('requests behind stuck connections get a code or 503', async () => {
  const { endUser } = await issued();
  const holder = await openConnection(server.settings);
  await holder.run('x', 'SELECT 1 FROM otps WHERE user_id = ? FOR UPDATE', [endUser.user]);
  const stuck = atOnce(8, () => promptly(() => fleet.verify(endUser, '123456')));
  const others = atOnce(20, () => promptly(() => fleet.request(newEndUser())));
  (await stuck).forEach(assertUnavailable);
  const counts = countByKind(await others);
  const { 201: served = 0, '503 unavailable': refused = 0 } = counts;
  assert.is(served + refused, 20, JSON.stringify(counts));
  holder.destroy();
  await recovers();
});

async function withAdministrator(work: (connection: Connection) => Promise<void>): Promise<void> {
  const connection = await openConnection({ ...server.settings, database: null });
  await work(connection).finally(() => connection.destroy());
}

test('requests get 503 while the server is read-only, and succeed afterwards', async () => {
  const { endUser, code } = await issued();
  await withAdministrator(async (connection) => {
    await connection.run('x', 'SET GLOBAL super_read_only = ON', []);
    const replies = await Promise.all([
      promptly(() => fleet.request(newEndUser())), promptly(() => fleet.verify(endUser, code)),
    ]);
    await connection.run('x', 'SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF', []);
    replies.forEach(assertUnavailable);
  });
  await recovers();
  assert.is((await fleet.verify(endUser, code)).status, 200);
});

test('requests get 503 while max_connections is reached, and succeed afterwards', async () => {
  await withAdministrator(async (connection) => {
    const hog = await openConnection(server.settings);
    const [row] = await connection.run('x', 'SELECT @@max_connections AS n', []);
    // MySQL admits max_connections and one administrator: both connections are taken.
    await connection.run('x', 'SET GLOBAL max_connections = 1', []);
    proxy.setMode('closed');
    proxy.setMode('pass');
    const replies = await atOnce(6, () => promptly(() => fleet.request(newEndUser())));
    hog.destroy();
    await connection.run('x', `SET GLOBAL max_connections = ${Number(row?.n)}`, []);
    replies.forEach(assertUnavailable);
  });
  await recovers();
});

test.run();
