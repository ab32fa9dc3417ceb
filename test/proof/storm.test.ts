/**
 * 1,000 simultaneous requests on 64 connections and an empty database: each gets its response, and
 * the lock order prevents deadlocks.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient } from '../harness/client.ts';
import {
  atOnce, fresh, freshAddress, newEndUser, startFleet, countByKind, wrongCode,
} from './load.ts';
import type { Fleet } from './load.ts';
import { startDurableServer } from './durable-server.ts';
import type { DurableServer } from './durable-server.ts';
import { countDeadlocks } from './tampered-connections.ts';

const CONNECTIONS = 64;
const REQUESTS = 1000;

// A server of its own: other tests cause deadlocks on purpose.
let server: DurableServer;
test.before(async () => {
  server = await startDurableServer();
  process.env.OTPD_TEST_SOCKET = server.settings.socketPath ?? '';
});
test.after(() => server.stop());

/**
 * Runs `work` on an empty database and expects no deadlock. One is possible, and is run again: of
 * three transactions that insert the same new key, two hold a shared lock on its place when the
 * first is rolled back, which a fourth must cause.
 */
function storm(name: string, processes: number, work: (fleet: Fleet) => Promise<void>): void {
  test(name, async () => {
    const fleet = await startFleet(processes, CONNECTIONS / processes);
    const deadlocks = await countDeadlocks(fleet.database);
    try {
      await work(fleet);
      assert.is(await countDeadlocks(fleet.database), deadlocks, 'deadlocks');
    } finally {
      closeClient();
      await fleet.stop();
    }
  });
}

for (const processes of [1, 2]) {
  storm(`every request of a new user and address gets a code (${processes} processes)`,
    processes, async (fleet) => {
      const replies = await atOnce(REQUESTS, () => fleet.request(newEndUser()));
      assert.equal(countByKind(replies), { 201: REQUESTS });
      const [row] = await fleet.database.query('SELECT COUNT(*) AS n FROM otps');
      assert.is(Number(row?.n), REQUESTS);
    });

  storm(`limits are exact when users and addresses cross (${processes} processes)`,
    processes, async (fleet) => {
      // Each of 20 users from each of 20 addresses, neighbours in opposite order.
      const users = Array.from({ length: 20 }, () => fresh('u'));
      const addresses = Array.from({ length: 20 }, () => freshAddress());
      const replies = await atOnce(REQUESTS, (index) => {
        const at = index % 400;
        const column = Math.floor(at / 20);
        return fleet.request({
          user: users[at % 20]!,
          address: addresses[at % 2 === 0 ? column : 19 - column]!,
          purpose: `p${index % 7}`,
        });
      });
      // 20 users with 3 codes each are fewer than 20 addresses with 8 each.
      assert.equal(countByKind(replies), { 201: 60, '429 rate_limit_exceeded': REQUESTS - 60 });
    });
}

storm('one address gets exactly 8 codes when each key is sent twice', 2, async (fleet) => {
  const address = freshAddress();
  const keys = Array.from({ length: REQUESTS / 2 }, () => fresh('k'));
  const users = keys.map(() => fresh('u'));
  const replies = await atOnce(REQUESTS, (index) => {
    const at = index % keys.length;
    return fleet.request({ user: users[at]!, address }, keys[at]);
  });
  const issued = replies.filter(({ status }) => status === 201);
  assert.is(new Set(issued.map(({ text }) => text)).size, 8);
  assert.equal(Object.keys(countByKind(replies)).sort(), ['201', '429 rate_limit_exceeded']);
});

storm('wrong codes and shared keys of crossing users and addresses', 2, async (fleet) => {
  const endUsers = await atOnce(100, async () => {
    const endUser = newEndUser();
    const { body } = await fleet.request(endUser);
    return { endUser, code: (await fleet.messageOf(body.otp_id)).code };
  });
  const addresses = Array.from({ length: 20 }, () => freshAddress());
  const keys = Array.from({ length: 30 }, () => fresh('k'));
  const replies = await atOnce(REQUESTS, (index) => {
    const at = index % 2 === 0 ? index % 100 : 99 - index % 100;
    const { endUser, code } = endUsers[at]!;
    const address = addresses[Math.floor(index / 7) % 20]!;
    return fleet.verify({ ...endUser, address }, index % 5 === 0 ? code : wrongCode(code, index),
      index % 3 === 0 ? keys[index % 30] : undefined);
  });
  const kinds = Object.keys(countByKind(replies));
  const expected = ['200', '401 invalid_code', '410 code_used', '422 idempotency_key_reused',
    '429 rate_limit_exceeded', '429 too_many_attempts'];
  assert.equal(kinds.filter((kind) => !expected.includes(kind)), []);
  const surely = replies.filter(({ status }) => status === 401 || status === 422);
  // A lock begins with 600 s, and a refusal within its first second names them, too.
  const perhaps = replies.filter(({ body }) => body.retry_after_seconds === 600);
  const [row] = await fleet.database.query('SELECT SUM(points) AS n FROM limit_hits');
  const counted = Number(row?.n);
  assert.ok(counted >= surely.length && counted <= surely.length + perhaps.length, `${counted}`);
});

test.run();
