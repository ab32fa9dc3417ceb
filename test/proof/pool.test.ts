/** The connection pool: the settings of a connection, the queue of waiters, and their deadlines. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Connection } from '../../src/db/connection.ts';
import { Deadline } from '../../src/db/clock.ts';
import { StatementError, Unavailable } from '../../src/db/errors.ts';
import { ConnectionPool } from '../../src/db/pool.ts';
import { createFixture } from './tampered-connections.ts';
import type { Fixture } from './tampered-connections.ts';
import { createGate, errorOf, promptly } from '../harness/waiting.ts';

const LONG_MS = 60_000;
const WAITERS_MAX = 4096;

let fixture: Fixture;
let deadlines: Deadline[] = [];

function deadline(milliseconds = LONG_MS): Deadline {
  const made = new Deadline(milliseconds);
  deadlines.push(made);
  return made;
}

/** A connection without a server. */
function fakeConnection(): Connection {
  let isDestroyed = false;
  return {
    activity: { threadId: 0, isWaiting: false, sentAtMs: 0, heardAtMs: 0 },
    run: () => Promise.resolve([]),
    runAll: () => Promise.resolve([]),
    destroy: () => { isDestroyed = true; },
    isDestroyed: () => isDestroyed,
  };
}

/** Lets promises and immediates run. */
async function turns(): Promise<void> {
  for (let i = 0; i < 4; i += 1) await new Promise((resolve) => { setImmediate(resolve); });
}

function fakePool(size: number): ConnectionPool {
  return new ConnectionPool(() => Promise.resolve(fakeConnection()), size);
}

test.before(async () => { fixture = await createFixture(); });
test.after.each(() => {
  for (const made of deadlines) made.clear();
  deadlines = [];
  fixture.closePools();
});
test.after(() => fixture.database.close());

test('a connection has the settings that the statements rely on', async () => {
  const pool = fixture.pool(1);
  const connection = await pool.acquire(deadline());
  const [row] = await connection.run('x', `SELECT @@session.autocommit AS autocommit,
    @@session.transaction_isolation AS isolation, @@session.time_zone AS zone,
    TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), NOW(6)) AS offset,
    @@session.innodb_lock_wait_timeout AS wait, @@session.sql_mode AS mode,
    'u1' = 'U1' AS folds_case, 'u1' = 'ú1' AS folds_accent, 'u1' = 'u1 ' AS pads`, []);
  assert.equal({ ...row, mode: null }, {
    autocommit: 0, isolation: 'READ-COMMITTED', zone: '+00:00', offset: 0, wait: 1, mode: null,
    folds_case: 0, folds_accent: 0, pads: 0,
  });
  assert.match(String(row?.mode), 'STRICT_ALL_TABLES');
  await connection.run('x', 'ROLLBACK', []);
  pool.release(connection);
});

test('an uncommitted write is lost with its connection', async () => {
  const connection = await fixture.connect();
  await connection.run('x', "INSERT INTO notes VALUES (1, 'a')", []);
  connection.destroy();
  assert.equal(await fixture.ids(), []);
});

test('a later statement sees rows that were committed since the first', async () => {
  const connection = await fixture.connect();
  assert.equal(await connection.run('x', 'SELECT id FROM notes', []), []);
  await fixture.database.query("INSERT INTO notes VALUES (2, 'a')");
  assert.is((await connection.run('x', 'SELECT id FROM notes', [])).length, 1);
  // READ COMMITTED takes no gap lock: another connection may insert next to a row not found.
  await connection.run('x', 'SELECT id FROM notes WHERE id = 4 FOR UPDATE', []);
  await fixture.database.query("INSERT INTO notes VALUES (3, 'a'), (5, 'a')");
  connection.destroy();
});

test('a text that is too long is an error and is not truncated', async () => {
  const connection = await fixture.connect();
  const insert = connection.run('x', "INSERT INTO notes VALUES (9, 'longer')", []);
  assert.is((await errorOf(insert) as StatementError).errno, 1406);
  connection.destroy();
});

test('a pool opens at most `size` connections and serves waiters in order', async () => {
  let opened = 0;
  const pool = new ConnectionPool(async () => { opened += 1; return fakeConnection(); }, 2);
  const held = [await pool.acquire(deadline()), await pool.acquire(deadline())];
  const served: number[] = [];
  const waiting = Array.from({ length: 20 }, async (_, index) => {
    const connection = await pool.acquire(deadline());
    served.push(index);
    pool.release(connection);
  });
  held.forEach((connection) => pool.release(connection));
  await Promise.all(waiting);
  assert.equal(served, Array.from({ length: 20 }, (_, index) => index));
  assert.equal([opened, pool.busyCount], [2, 0]);
});

test('simultaneous waiters never open more than `size` connections', async () => {
  let open = 0;
  let most = 0;
  const pool = new ConnectionPool(async () => {
    open += 1;
    most = Math.max(most, open);
    await Promise.resolve();
    return fakeConnection();
  }, 3);
  await Promise.all(Array.from({ length: 50 }, async () => {
    pool.release(await pool.acquire(deadline()));
  }));
  assert.equal([most, pool.busyCount], [3, 0]);
});

test('a waiter fails at its deadline, and the next one takes its place', async () => {
  const pool = fakePool(1);
  const held = await pool.acquire(deadline());
  const first = errorOf(pool.acquire(deadline(20)));
  const second = pool.acquire(deadline());
  assert.instance(await first, Unavailable);
  pool.release(held);
  assert.is(await second, held);
  pool.release(held);
  assert.is(pool.busyCount, 0);
});

test('a connection that opens after the deadline of its waiter goes to the next', async () => {
  const gate = createGate<Connection>();
  let opened = false;
  const pool = new ConnectionPool(
    () => (opened ? gate.promise : Promise.resolve(fakeConnection())), 1,
  );
  const held = await pool.acquire(deadline());
  opened = true;
  const first = errorOf(pool.acquire(deadline(10)));
  const second = pool.acquire(deadline());
  held.destroy();
  pool.release(held);
  assert.instance(await first, Unavailable);
  gate.open(fakeConnection());
  pool.release(await second);
  assert.is(pool.busyCount, 0);
});

test('the queue of waiters is bounded', async () => {
  const pool = fakePool(1);
  const held = await pool.acquire(deadline());
  const waiting = Array.from({ length: WAITERS_MAX }, () => pool.acquire(deadline()));
  const result = await promptly(() => errorOf(pool.acquire(deadline())));
  assert.instance(result, Unavailable);
  pool.release(held);
  for (const each of waiting) pool.release(await each);
  assert.is(pool.busyCount, 0);
});

test('a destroyed connection makes room for a waiter', async () => {
  const pool = fakePool(1);
  const held = await pool.acquire(deadline());
  const waiting = pool.acquire(deadline());
  held.destroy();
  pool.release(held);
  const next = await waiting;
  assert.is.not(next, held);
  assert.not(next.isDestroyed());
  pool.release(next);
});

test('a failure to open reaches its caller, and the next waiter tries again', async () => {
  let tries = 0;
  const pool = new ConnectionPool(async () => {
    tries += 1;
    if (tries <= 3) throw new Unavailable('away');
    return fakeConnection();
  }, 1);
  const outcomes = await Promise.allSettled(
    Array.from({ length: 5 }, async () => pool.release(await pool.acquire(deadline()))),
  );
  assert.equal(outcomes.map(({ status }) => status),
    ['rejected', 'rejected', 'rejected', 'fulfilled', 'fulfilled']);
  assert.equal([tries, pool.busyCount], [4, 0]);
});

/** What opening throws when the account has as many connections as it may have. */
function refusal(errno = 1226): Unavailable {
  const cause = new StatementError('setUpSession', 'X', errno, 'unavailable');
  return new Unavailable('cannot connect to the database', { cause });
}

test('a refused opening fails nobody while a connection lives, and is not repeated at once',
  async () => {
    let tries = 0;
    const pool = new ConnectionPool(async () => {
      tries += 1;
      if (tries > 1) throw refusal();
      return fakeConnection();
    }, 8);
    const held = await pool.acquire(deadline());
    const waiting = Array.from({ length: 20 }, () => pool.acquire(deadline()));
    await turns();
    pool.release(held);
    for (const each of waiting) {
      assert.is(await each, held);
      pool.release(held);
    }
    assert.ok(tries <= 1 + 7, `${tries} openings`);
    assert.is(pool.busyCount, 0);
  });

test('a caller waits for its deadline while a limit allows no connection, and learns the cause',
  async () => {
    const limited = refusal(1040);
    const pool = new ConnectionPool(() => Promise.reject(limited), 2);
    const error = await errorOf(pool.acquire(deadline(50)));
    assert.instance(error, Unavailable);
    assert.is(error.cause, limited);
    pool.close();
  });

test('a connection that becomes possible again serves a caller that waits', async () => {
  let isLimited = true;
  const pool = new ConnectionPool(async () => {
    if (isLimited) throw refusal();
    return fakeConnection();
  }, 2);
  const waiting = pool.acquire(deadline());
  await turns();
  isLimited = false;
  pool.release(await promptly(() => waiting));
  assert.is(pool.busyCount, 0);
});

test('a pause between openings ends when the primary has moved', async () => {
  let isLimited = false;
  const pool = new ConnectionPool(async () => {
    if (isLimited) throw refusal();
    return fakeConnection();
  }, 2);
  const held = await pool.acquire(deadline());
  isLimited = true;
  const waiting = pool.acquire(deadline());
  await turns();
  isLimited = false;
  pool.renew();
  await turns();
  assert.is(pool.waitingCount, 0, 'a connection was opened at once');
  pool.release(await waiting);
  pool.release(held);
  assert.equal([pool.busyCount, pool.idleCount], [0, 1]);
});

test('after a lost connection no idle one is lent that has not answered since', async () => {
  const made = [5, 10, 25, 30].map((heardAtMs) => {
    const connection = fakeConnection();
    Object.assign(connection.activity, { heardAtMs });
    return connection;
  });
  const coming = [...made];
  const pool = new ConnectionPool(() => Promise.resolve(coming.shift()!), made.length);
  const held = await Promise.all(made.map(() => pool.acquire(deadline())));
  const [lost, ...others] = held;
  for (const other of others) pool.release(other);
  Object.assign(lost!.activity, { sentAtMs: 20, isWaiting: true });
  lost!.destroy();
  pool.release(lost!);
  assert.equal(made.map((connection) => connection.isDestroyed()), [true, true, false, false]);
  assert.is(pool.idleCount, 2);
});

test('close destroys idle connections at once, and lent ones on release', async () => {
  const pool = fakePool(2);
  const [idle, lent] = [await pool.acquire(deadline()), await pool.acquire(deadline())];
  const waiting = Array.from({ length: 3 }, () => errorOf(pool.acquire(deadline())));
  pool.close();
  for (const error of await Promise.all(waiting)) assert.instance(error, Unavailable);
  assert.instance(await errorOf(pool.acquire(deadline())), Unavailable);
  assert.not(lent.isDestroyed());
  pool.release(idle);
  pool.release(lent);
  assert.ok(idle.isDestroyed() && lent.isDestroyed());
  assert.is(pool.busyCount, 0);
});

test('close destroys a connection that is being opened', async () => {
  let made: Connection | null = null;
  const pool = new ConnectionPool(async () => {
    await Promise.resolve();
    made = fakeConnection();
    return made;
  }, 1);
  const asked = pool.acquire(deadline());
  pool.close();
  const outcome = await asked.then((connection) => connection, () => null);
  if (outcome !== null) pool.release(outcome);
  assert.is(pool.busyCount, 0);
  assert.ok(made === null || (made as Connection).isDestroyed(), 'the connection is destroyed');
});

test.run();
