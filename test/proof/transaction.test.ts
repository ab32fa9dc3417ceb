/** Transactions on a real server: commit, rollback and retry. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { monotonicMs } from '../../src/db/clock.ts';
import { describeStatementError, StatementError, Unavailable } from '../../src/db/errors.ts';
import type { ConnectionPool } from '../../src/db/pool.ts';
import { write } from '../../src/db/query.ts';
import { transaction } from '../../src/db/transaction.ts';
import type { Rider, Transaction } from '../../src/db/transaction.ts';
import {
  query, countDeadlocks, createFixture, includes, isCommit, rowsBy,
} from './tampered-connections.ts';
import type { Fixture } from './tampered-connections.ts';
import { createGate, errorOf, eventually, promptly, timed } from '../harness/waiting.ts';

/** The wait for a lock takes up to 2 s, which is all the time of a request. */
const PATIENT_MS = 60_000;

let fixture: Fixture;
let pool: ConnectionPool;
let lastId = 0;

const insertNote = (tx: Transaction, id: number) =>
  query(tx, 'insertNote', 'INSERT INTO notes VALUES (?, ?)', [id, 'a']);
const lockNote = (tx: Transaction, id: number) =>
  query(tx, 'lock', 'SELECT id FROM notes WHERE id = ? FOR UPDATE', [id]);
const connectionId = async (tx: Transaction) =>
  (await query(tx, 'id', 'SELECT CONNECTION_ID() AS id', []))[0]?.id as number;
const countNotes = async (id: number): Promise<number> =>
  (await fixture.ids()).filter((other) => other === id).length;
const nextId = () => { lastId += 1; return lastId; };

test.before(async () => {
  fixture = await createFixture();
});
test.before.each(() => {
  pool = fixture.pool(4);
});
test.after.each(() => fixture.closePools());
test.after(() => fixture.database.close());

test('a transaction commits when its work returns, and passes the result on', async () => {
  const id = nextId();
  const result = await transaction(pool, async (tx) => {
    await insertNote(tx, id);
    return 'done';
  });
  assert.is(result, 'done');
  assert.ok((await fixture.ids()).includes(id));
});

test('a transaction rolls back when its work throws, and rethrows the same error', async () => {
  const id = nextId();
  const reason = new TypeError('mine');
  const work = async (tx: Transaction) => { await insertNote(tx, id); throw reason; };
  assert.is(await errorOf(transaction(pool, work)), reason);
  assert.not((await fixture.ids()).includes(id));
});

test('the first error is rethrown when ROLLBACK fails, and the connection is not reused',
  async () => {
    const one = fixture.pool(1);
    const id = nextId();
    let first = 0;
    fixture.tamper(async (name, _, proceed) => {
      if (name === 'rollback') throw new Error('the second');
      return proceed();
    });
    const reason = new Error('the first');
    assert.is(await errorOf(transaction(one, async (tx) => {
      first = await connectionId(tx);
      await insertNote(tx, id);
      throw reason;
    })), reason);
    fixture.tamper(null);
    assert.is.not(await transaction(one, connectionId), first);
    assert.not((await fixture.ids()).includes(id), 'its write is rolled back');
  });

test('a read-only transaction ends in ROLLBACK', async () => {
  const id = nextId();
  await transaction(pool, async (tx) => { tx.readOnly(); await insertNote(tx, id); });
  assert.not((await fixture.ids()).includes(id));
});

/** A rider that inserts a note and records its calls. */
function createRider(id: number) {
  const events: unknown[] = [];
  const rider: Rider = {
    beforeCommit: async (tx) => {
      events.push(await query(tx, 'count', 'SELECT id FROM notes WHERE id = ?', [id]));
      tx.writes.push(write('ride', 'INSERT INTO notes VALUES (?, ?)', [id, 'r']));
    },
    afterCommit: (committed) => events.push(committed),
  };
  return { rider, events };
}

test('a rider writes in the transaction that it rides on', async () => {
  const [own, ridden] = [nextId(), nextId()];
  const { rider, events } = createRider(ridden);
  await transaction(pool, async (tx) => { await insertNote(tx, own); tx.riders.push(rider); });
  assert.equal(events, [[], true]);
  assert.equal((await fixture.ids()).slice(-2), [own, ridden]);
});

test('a rider of a read-only transaction does not write', async () => {
  const id = nextId();
  const { rider, events } = createRider(id);
  await transaction(pool, async (tx) => { tx.readOnly(); tx.riders.push(rider); });
  await transaction(pool, async (tx) => {
    tx.riders.push(rider);
    return tx.readAndEnd(rowsBy('one', 'SELECT 1', []));
  });
  assert.equal(events, [false, false]);
  assert.not((await fixture.ids()).includes(id));
});

test('a rerun after a rollback has its own riders', async () => {
  const id = nextId();
  let runs = 0;
  fixture.tamper(async (name, _, proceed) => {
    if (!includes(name, 'commit') || runs > 1) return proceed();
    throw new StatementError(name, 'X', 1213, 'retry');
  });
  const riders = [createRider(id), createRider(id)];
  await transaction(pool, async (tx) => {
    tx.riders.push(riders[runs]!.rider);
    runs += 1;
  });
  assert.equal(riders.map(({ events }) => events), [[[], false], [[], true]]);
  assert.ok((await fixture.ids()).includes(id));
});

test('a rider of work that throws learns that nothing was committed', async () => {
  const { rider, events } = createRider(nextId());
  await errorOf(transaction(pool, async (tx) => { tx.riders.push(rider); throw new Error('x'); }));
  assert.equal(events, [false]);
});

test('a reused connection has no open transaction and no lock', async () => {
  const one = fixture.pool(1);
  const id = nextId();
  await transaction(one, (tx) => insertNote(tx, id));
  await errorOf(transaction(one, async (tx) => { await lockNote(tx, id); throw new Error('x'); }));
  const other = await fixture.connect();
  await other.run('lock', 'SELECT id FROM notes WHERE id = ? FOR UPDATE NOWAIT', [id]);
  other.destroy();
});

test('a transaction that loses a deadlock (1213) is rerun, and both succeed', async () => {
  const [a, b] = [nextId(), nextId()];
  await transaction(pool, async (tx) => { await insertNote(tx, a); await insertNote(tx, b); });
  const before = await countDeadlocks(fixture.database);
  const gates = [createGate(), createGate()];
  let runs = 0;
  const cross = (mine: number, theirs: number, index: number) => transaction(pool, async (tx) => {
    runs += 1;
    const id = nextId();
    await insertNote(tx, id);
    await lockNote(tx, mine);
    gates[index]!.open();
    await gates[1 - index]!.promise;
    await lockNote(tx, theirs);
    return id;
  });
  const kept = await Promise.all([cross(a, b, 0), cross(b, a, 1)]);
  // Other files may cause deadlocks on the same server.
  assert.ok(await countDeadlocks(fixture.database) > before);
  assert.is(runs, 3);
  const all = await fixture.ids();
  assert.equal(all.filter((id) => id > b), kept.sort((x, y) => x - y), 'the victim left no row');
});

test('a transaction whose lock wait times out (1205) is rolled back and rerun', async () => {
  const held = nextId();
  await transaction(pool, (tx) => insertNote(tx, held));
  const holder = await fixture.connect();
  await holder.run('lock', 'SELECT id FROM notes WHERE id = ? FOR UPDATE', [held]);
  const id = nextId();
  const errnos: number[] = [];
  let runs = 0;
  await transaction(pool, async (tx) => {
    runs += 1;
    await query(tx, 'short', 'SET innodb_lock_wait_timeout = 1', []);
    await insertNote(tx, id);
    await lockNote(tx, held).catch(async (error: StatementError) => {
      errnos.push(error.errno);
      await holder.run('end', 'ROLLBACK', []);
      throw error;
    });
    await query(tx, 'long', 'SET innodb_lock_wait_timeout = 2', []);
  }, { answerByMs: monotonicMs() + PATIENT_MS });
  holder.destroy();
  assert.equal([runs, errnos], [2, [1205]]);
  assert.ok((await fixture.ids()).includes(id), 'the first insert was undone before the second');
});

test('a transaction runs 8 times at most, then is Unavailable with the cause', async () => {
  const held = nextId();
  await transaction(pool, (tx) => insertNote(tx, held));
  const holder = await fixture.connect();
  await holder.run('lock', 'SELECT id FROM notes WHERE id = ? FOR UPDATE', [held]);
  let runs = 0;
  const error = await errorOf(transaction(pool, async (tx) => {
    runs += 1;
    await query(tx, 'x', 'SELECT id FROM notes WHERE id = ? FOR UPDATE NOWAIT', [held]);
  }));
  holder.destroy();
  assert.instance(error, Unavailable);
  assert.is(((error as Unavailable).cause as StatementError).errno, 3572);
  assert.is(runs, 8);
});

for (const [what, sql, errno] of [
  ['a syntax error', 'SELEC 1', 1064],
  ['a column that is not there', 'SELECT nothing FROM notes', 1054],
  ['a value that is too long', "INSERT INTO notes VALUES (-1, 'longer')", 1406],
] as const) {
  test(`${what} is not retried, and is thrown unchanged`, async () => {
    let runs = 0;
    const error = await errorOf(transaction(pool, async (tx) => {
      runs += 1;
      await query(tx, 'statement.name', sql, []);
    })) as StatementError;
    assert.instance(error, StatementError);
    assert.equal([runs, error.errno, error.statement, error.errorClass],
      [1, errno, 'statement.name', 'bug']);
    assert.not(error.message.includes(sql), 'no SQL in the message');
  });
}

const raise = (tx: Transaction, errno: number) =>
  query(tx, 'raise', `SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = ${errno}`, []);

for (const errno of [1290, 1836, 1874, 3032, 3100, 3796, 3797, 3798, 3799]) {
  test(`a transaction that fails with ${errno} is rerun on a session opened afterwards`,
    async () => {
      const id = nextId();
      const sessions: number[] = [];
      const moved: boolean[] = [];
      pool.onMoved = (connection) => moved.push(connection.isDestroyed());
      await transaction(pool, async (tx) => {
        sessions.push(await connectionId(tx));
        await insertNote(tx, id);
        if (sessions.length === 1) await raise(tx, errno);
      });
      assert.is(new Set(sessions).size, 2);
      assert.equal([moved, await countNotes(id)], [[true], 1]);
    });
}

test('a transaction that loses the certification of its group (3101) is rerun', async () => {
  const id = nextId();
  const sessions: number[] = [];
  await transaction(pool, async (tx) => {
    sessions.push(await connectionId(tx));
    await insertNote(tx, id);
    if (sessions.length === 1) await raise(tx, 3101);
  });
  assert.equal([sessions.length, new Set(sessions).size, await countNotes(id)], [2, 1, 1]);
});

test('a transaction on a server that stays read-only is Unavailable at its deadline', async () => {
  let runs = 0;
  const error = await promptly(() => errorOf(transaction(pool, async (tx) => {
    runs += 1;
    await raise(tx, 1290);
  })));
  assert.instance(error, Unavailable);
  assert.is(((error as Unavailable).cause as StatementError).errno, 1290);
  assert.ok(runs > 1 && runs <= 8, `${runs} runs`);
  await transaction(pool, connectionId);
});

/** [error at the COMMIT, whether it took effect all the same, runs, probes] */
const COMMIT_ERRORS: [number, boolean, number, number][] = [
  [3100, true, 1, 1],
  [3100, false, 2, 1],
  [1290, false, 2, 0],
  [3797, false, 2, 0],
  [3101, false, 2, 0],
];

for (const [errno, hasCommitted, runs, probes] of COMMIT_ERRORS) {
  test(`a COMMIT that ends with ${errno} and ${hasCommitted ? 'has' : 'has not'} taken effect is`
    + ` true after ${runs} runs`, async () => {
    const id = nextId();
    const seen = { runs: 0, probes: 0, errors: 0 };
    fixture.tamper(async (name, connection, proceed) => {
      if (!isCommit(name) || seen.errors > 0) return proceed();
      seen.errors += 1;
      if (hasCommitted) await proceed();
      // The server rolls back, and then reports the error.
      else await connection.run('rollback', 'ROLLBACK', []);
      throw describeStatementError(name, { errno, code: 'ER_X' });
    });
    await transaction(pool, async (tx) => {
      seen.runs += 1;
      await insertNote(tx, id);
      tx.commitProbe({
        ...rowsBy('probe', 'SELECT id FROM notes WHERE id = ? FOR UPDATE', [id]),
        read: (rows) => { seen.probes += 1; return rows.length > 0; },
      });
    });
    fixture.tamper(null);
    assert.equal([seen, await countNotes(id)], [{ runs, probes, errors: 1 }, 1]);
  });
}

test('a transaction whose connection is killed is rerun on another one', async () => {
  const id = nextId();
  const connections: number[] = [];
  await transaction(pool, async (tx) => {
    connections.push(await connectionId(tx));
    await insertNote(tx, id);
    if (connections.length > 1) return;
    await fixture.database.query(`KILL CONNECTION ${connections[0]}`);
    await query(tx, 'sleep', 'SELECT SLEEP(1)', []);
  });
  assert.is(new Set(connections).size, 2);
  assert.ok((await fixture.ids()).includes(id));
});

test('a connection that the server closed while idle is replaced', async () => {
  const one = fixture.pool(1);
  const first = await transaction(one, connectionId);
  await fixture.database.query(`KILL CONNECTION ${first}`);
  const second = await transaction(one, connectionId);
  assert.is.not(second, first);
});

test('work beyond the deadline is aborted, and its connection destroyed', async () => {
  const one = fixture.pool(1);
  let first = 0;
  const { ms, result } = await promptly(() => timed(() =>
    errorOf(transaction(one, async (tx) => {
      first = await connectionId(tx);
      await query(tx, 'sleep', 'SELECT SLEEP(60)', []);
    }))));
  assert.instance(result, Unavailable);
  assert.ok(ms > 1900, `${ms} ms`);
  assert.is.not(await transaction(one, connectionId), first);
  await fixture.database.query(`KILL CONNECTION ${first}`).catch(() => {});
});

test('work on a connection that opened at the deadline is aborted as well', async () => {
  const slow = fixture.pool(1);
  const opened = createGate();
  const pass = slow.acquire.bind(slow);
  slow.acquire = async (deadline) => {
    const connection = await pass(deadline);
    await eventually('the time is over', () => deadline.isOver);
    opened.open();
    return connection;
  };
  const result = await promptly(() => errorOf(
    transaction(slow, (tx) => query(tx, 'sleep', 'SELECT SLEEP(20)', [])),
  ));
  await opened.promise;
  assert.instance(result, Unavailable);
});

test.run();
