/** The transaction helper on a real server: what it keeps, what it undoes, what it runs again. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { StatementError, Unavailable } from '../../src/db/errors.ts';
import type { ConnectionPool } from '../../src/db/pool.ts';
import { write } from '../../src/db/query.ts';
import { transaction } from '../../src/db/transaction.ts';
import type { Rider, Transaction } from '../../src/db/transaction.ts';
import { ask, countDeadlocks, createBench, includes, rowsBy } from './tampered-connections.ts';
import type { Bench } from './tampered-connections.ts';
import { createGate, errorOf, eventually, promptly, timed } from '../harness/waiting.ts';

let bench: Bench;
let pool: ConnectionPool;
let lastId = 0;

const note = (tx: Transaction, id: number) =>
  ask(tx, 'note', 'INSERT INTO notes VALUES (?, ?)', [id, 'a']);
const lockNote = (tx: Transaction, id: number) =>
  ask(tx, 'lock', 'SELECT id FROM notes WHERE id = ? FOR UPDATE', [id]);
const connectionId = async (tx: Transaction) =>
  (await ask(tx, 'id', 'SELECT CONNECTION_ID() AS id', []))[0]?.id as number;
const nextId = () => { lastId += 1; return lastId; };

test.before(async () => {
  bench = await createBench();
});
test.before.each(() => {
  pool = bench.pool(4);
});
test.after.each(() => bench.closePools());
test.after(() => bench.database.close());

test('commits on return, and passes the result on', async () => {
  const id = nextId();
  assert.is(await transaction(pool, async (tx) => { await note(tx, id); return 'done'; }), 'done');
  assert.ok((await bench.ids()).includes(id));
});

test('rolls back on throw, and rethrows the very error', async () => {
  const id = nextId();
  const reason = new TypeError('mine');
  const work = async (tx: Transaction) => { await note(tx, id); throw reason; };
  assert.is(await errorOf(transaction(pool, work)), reason);
  assert.not((await bench.ids()).includes(id));
});

test('the first error is rethrown when ROLLBACK fails too, and the session is not lent again',
  async () => {
    const one = bench.pool(1);
    const id = nextId();
    let first = 0;
    bench.tamper(async (name, _, proceed) => {
      if (name === 'rollback') throw new Error('the second');
      return proceed();
    });
    const reason = new Error('the first');
    assert.is(await errorOf(transaction(one, async (tx) => {
      first = await connectionId(tx);
      await note(tx, id);
      throw reason;
    })), reason);
    bench.tamper(null);
    assert.is.not(await transaction(one, connectionId), first);
    assert.not((await bench.ids()).includes(id), 'what it wrote went down with it');
  });

test('work that only answers ends in ROLLBACK', async () => {
  const id = nextId();
  await transaction(pool, async (tx) => { tx.readOnly(); await note(tx, id); });
  assert.not((await bench.ids()).includes(id));
});

/** A rider that writes a note, and says what happened to it. */
function createRider(id: number) {
  const events: unknown[] = [];
  const rider: Rider = {
    beforeCommit: async (tx) => {
      events.push(await ask(tx, 'count', 'SELECT id FROM notes WHERE id = ?', [id]));
      tx.writes.push(write('ride', 'INSERT INTO notes VALUES (?, ?)', [id, 'r']));
    },
    afterCommit: (committed) => events.push(committed),
  };
  return { rider, events };
}

test('a rider writes in the transaction that it rides on', async () => {
  const [own, ridden] = [nextId(), nextId()];
  const { rider, events } = createRider(ridden);
  await transaction(pool, async (tx) => { await note(tx, own); tx.riders.push(rider); });
  assert.equal(events, [[], true]);
  assert.equal((await bench.ids()).slice(-2), [own, ridden]);
});

test('a rider does not write in a transaction that only reads, and learns so', async () => {
  const id = nextId();
  const { rider, events } = createRider(id);
  await transaction(pool, async (tx) => { tx.readOnly(); tx.riders.push(rider); });
  await transaction(pool, async (tx) => {
    tx.riders.push(rider);
    return tx.readAndEnd(rowsBy('one', 'SELECT 1', []));
  });
  assert.equal(events, [false, false]);
  assert.not((await bench.ids()).includes(id));
});

test('a rider of a rolled back attempt learns so, and the rerun has its own riders', async () => {
  const id = nextId();
  let runs = 0;
  bench.tamper(async (name, _, proceed) => {
    if (!includes(name, 'commit') || runs > 1) return proceed();
    throw new StatementError(name, 'X', 1213, 'retry');
  });
  const riders = [createRider(id), createRider(id)];
  await transaction(pool, async (tx) => {
    tx.riders.push(riders[runs]!.rider);
    runs += 1;
  });
  assert.equal(riders.map(({ events }) => events), [[[], false], [[], true]]);
  assert.ok((await bench.ids()).includes(id));
});

test('a rider of work that throws learns that nothing was committed', async () => {
  const { rider, events } = createRider(nextId());
  await errorOf(transaction(pool, async (tx) => { tx.riders.push(rider); throw new Error('x'); }));
  assert.equal(events, [false]);
});

test('a session is lent again clean: no transaction, no lock', async () => {
  const one = bench.pool(1);
  const id = nextId();
  await transaction(one, (tx) => note(tx, id));
  await errorOf(transaction(one, async (tx) => { await lockNote(tx, id); throw new Error('x'); }));
  const other = await bench.outsider();
  await other.run('lock', 'SELECT id FROM notes WHERE id = ? FOR UPDATE NOWAIT', [id]);
  other.destroy();
});

test('a real deadlock (1213) is run again as a whole, and both succeed', async () => {
  const [a, b] = [nextId(), nextId()];
  await transaction(pool, async (tx) => { await note(tx, a); await note(tx, b); });
  const before = await countDeadlocks(bench.database);
  const gates = [createGate(), createGate()];
  let runs = 0;
  const cross = (mine: number, theirs: number, index: number) => transaction(pool, async (tx) => {
    runs += 1;
    const id = nextId();
    await note(tx, id);
    await lockNote(tx, mine);
    gates[index]!.open();
    await gates[1 - index]!.promise;
    await lockNote(tx, theirs);
    return id;
  });
  const kept = await Promise.all([cross(a, b, 0), cross(b, a, 1)]);
  // Other files may make deadlocks on the same server.
  assert.ok(await countDeadlocks(bench.database) > before);
  assert.is(runs, 3);
  const all = await bench.ids();
  assert.equal(all.filter((id) => id > b), kept.sort((x, y) => x - y), 'the loser left nothing');
});

test('a lock wait that timed out (1205) is rolled back whole, and run again', async () => {
  const held = nextId();
  await transaction(pool, (tx) => note(tx, held));
  const holder = await bench.outsider();
  await holder.run('lock', 'SELECT id FROM notes WHERE id = ? FOR UPDATE', [held]);
  const id = nextId();
  const errnos: number[] = [];
  let runs = 0;
  await transaction(pool, async (tx) => {
    runs += 1;
    await ask(tx, 'short', 'SET innodb_lock_wait_timeout = 1', []);
    await note(tx, id);
    await lockNote(tx, held).catch(async (error: StatementError) => {
      errnos.push(error.errno);
      await holder.run('end', 'ROLLBACK', []);
      throw error;
    });
    await ask(tx, 'long', 'SET innodb_lock_wait_timeout = 2', []);
  });
  holder.destroy();
  assert.equal([runs, errnos], [2, [1205]]);
  assert.ok((await bench.ids()).includes(id), 'the first insert was undone before the second');
});

test('reruns are bounded: 8 runs, then Unavailable with the cause', async () => {
  const held = nextId();
  await transaction(pool, (tx) => note(tx, held));
  const holder = await bench.outsider();
  await holder.run('lock', 'SELECT id FROM notes WHERE id = ? FOR UPDATE', [held]);
  let runs = 0;
  const error = await errorOf(transaction(pool, async (tx) => {
    runs += 1;
    await ask(tx, 'x', 'SELECT id FROM notes WHERE id = ? FOR UPDATE NOWAIT', [held]);
  }));
  holder.destroy();
  assert.instance(error, Unavailable);
  assert.is(((error as Unavailable).cause as StatementError).errno, 3572);
  assert.is(runs, 8);
});

for (const [what, sql, errno] of [
  ['a syntax error', 'SELEC 1', 1064],
  ['a table that is not there', 'SELECT 1 FROM nowhere', 1146],
  ['a value that is too long', "INSERT INTO notes VALUES (-1, 'longer')", 1406],
] as const) {
  test(`${what} is a fault: run once, and thrown as it is`, async () => {
    let runs = 0;
    const error = await errorOf(transaction(pool, async (tx) => {
      runs += 1;
      await ask(tx, 'statement.name', sql, []);
    })) as StatementError;
    assert.instance(error, StatementError);
    assert.equal([runs, error.errno, error.statement, error.errorClass],
      [1, errno, 'statement.name', 'bug']);
    assert.not(error.message.includes(sql), 'no SQL in the message');
  });
}

test('a connection that is killed in the middle is run again on another', async () => {
  const id = nextId();
  const connections: number[] = [];
  await transaction(pool, async (tx) => {
    connections.push(await connectionId(tx));
    await note(tx, id);
    if (connections.length > 1) return;
    await bench.database.query(`KILL CONNECTION ${connections[0]}`);
    await ask(tx, 'sleep', 'SELECT SLEEP(1)', []);
  });
  assert.is(new Set(connections).size, 2);
  assert.ok((await bench.ids()).includes(id));
});

test('a session that the server closed while it was idle is replaced', async () => {
  const one = bench.pool(1);
  const first = await transaction(one, connectionId);
  await bench.database.query(`KILL CONNECTION ${first}`);
  const second = await transaction(one, connectionId);
  assert.is.not(second, first);
});

test('work that takes too long is broken off, and its session with it', async () => {
  const one = bench.pool(1);
  let first = 0;
  const { ms, result } = await promptly(() => timed(() =>
    errorOf(transaction(one, async (tx) => {
      first = await connectionId(tx);
      await ask(tx, 'sleep', 'SELECT SLEEP(60)', []);
    }))));
  assert.instance(result, Unavailable);
  assert.ok(ms > 2000, `${ms} ms`);
  assert.is.not(await transaction(one, connectionId), first);
  await bench.database.query(`KILL CONNECTION ${first}`).catch(() => {});
});

test('a session that opened as the time ran out is bounded as well', async () => {
  const slow = bench.pool(1);
  const opened = createGate();
  const pass = slow.acquire.bind(slow);
  slow.acquire = async (deadline) => {
    const session = await pass(deadline);
    await eventually('the time is over', () => deadline.isOver);
    opened.open();
    return session;
  };
  const result = await promptly(() => errorOf(
    transaction(slow, (tx) => ask(tx, 'sleep', 'SELECT SLEEP(20)', [])),
  ));
  await opened.promise;
  assert.instance(result, Unavailable);
});

test.run();
