/** The search for the primary among hosts that refuse, hang, answer late and lie. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Deadline } from '../../../src/db/clock.ts';
import type { Connection } from '../../../src/db/connection.ts';
import { NoPrimary, Unavailable } from '../../../src/db/errors.ts';
import { ConnectionPool } from '../../../src/db/pool.ts';
import { Primary } from '../../../src/db/primary.ts';
import type { PrimaryEvent } from '../../../src/db/primary.ts';
import { roleOf, startMember } from '../../harness/member.ts';
import type { Member } from '../../harness/member.ts';
import { errorOf, eventually, promptly } from '../../harness/waiting.ts';

type Fixture = Readonly<{
  members: Member[]; primary: Primary; pool: ConnectionPool; events: PrimaryEvent[];
  acquire: () => Promise<Connection>;
  /** How many idle and lent connections the pool has. */
  held: () => [idle: number, busy: number];
}>;

/** Member i is called `m<i>`; those whose index is in `writers` take writes. */
async function withMembers(
  count: number,
  writers: readonly number[],
  work: (fixture: Fixture) => Promise<void>,
): Promise<void> {
  const members = await Promise.all(Array.from({ length: count }, (_, index) =>
    startMember(roleOf(writers.includes(index), { id: `m${index}` }))));
  const events: PrimaryEvent[] = [];
  const primary = new Primary(members.map(({ settings }) => settings), undefined,
    (event) => events.push(event));
  const pool = new ConnectionPool(() => primary.open(), 4);
  primary.serve(pool);
  const deadlines: Deadline[] = [];
  const acquire = (): Promise<Connection> => {
    const deadline = new Deadline(30_000);
    deadlines.push(deadline);
    return promptly(() => pool.acquire(deadline), 30_000);
  };
  const held = (): [number, number] => [pool.idleCount, pool.busyCount];
  try {
    await work({ members, primary, pool, events, acquire, held });
  } finally {
    primary.stop();
    pool.close();
    for (const deadline of deadlines) deadline.clear();
    for (const member of members) member.release();
    await Promise.all(members.map((member) => member.refuse().catch(() => {})));
  }
}

function metricsOf(primary: Primary): Record<string, number> {
  return Object.fromEntries(primary.families().flatMap(({ name, samples }) => samples
    .filter(({ suffix }) => suffix !== '_bucket')
    .map(({ suffix, labels, value }) => [[name + suffix, ...Object.values(labels)].join(' '),
      value])));
}

function portOf(settings: { port: number }): number {
  return settings.port;
}

test('a search takes the host that takes writes, whatever the others say or do not say',
  async () => {
    await withMembers(4, [3], async ({ members, primary }) => {
      const [refusing, hanging, late, writing] = members as [Member, Member, Member, Member];
      await refusing.refuse();
      hanging.hold();
      late.hold();
      assert.is(portOf(await primary.find()), portOf(writing.settings));
      late.role = roleOf(true, { id: 'late' });
      late.release();
      const connection = await primary.open();
      assert.is(writing.sessions(), 1);
      connection.destroy();
    });
  });

test('all that want a session share one search, and the last found is not searched again',
  async () => {
    await withMembers(3, [1], async ({ members, primary }) => {
      const opened = await Promise.all(Array.from({ length: 20 }, () => primary.open()));
      assert.equal(members.map(({ logins }) => logins.sessions), [0, 20, 0]);
      assert.equal(members.map(({ logins }) => logins.others), [1, 1, 1]);
      for (const connection of opened) connection.destroy();
      assert.is(portOf(await primary.find()), portOf(members[1]!.settings));
      assert.equal(members.map(({ logins }) => logins.others), [1, 1, 1]);
      assert.is(metricsOf(primary)['otpd_database_search_seconds_count'], 1);
    });
  });

/** [what the hosts say, the fault] */
const FAULTS: [string, (members: Member[]) => void, string, RegExp][] = [
  ['no host takes writes', () => {}, 'read_only', /takes no writes, .* takes no writes/],
  ['the writer has no majority', (members) => {
    members[0]!.role = roleOf(true, { hasQuorum: false });
  }, 'quorum', /has no majority of its group, .* takes no writes/],
  ['the survivor has no majority', (members) => {
    members[0]!.role = roleOf(false, { hasQuorum: false });
    members[1]!.loginError = 1053;
  }, 'quorum', /has no majority .* ER_SERVER_SHUTDOWN/],
  ['no login succeeds', (members) => {
    for (const member of members) member.loginError = 1045;
  }, 'database', /ER_ACCESS_DENIED_ERROR, .*ER_ACCESS_DENIED_ERROR$/],
];

for (const [what, arrange, fault, words] of FAULTS) {
  test(`the fault is ${fault} when ${what}`, async () => {
    await withMembers(2, [], async ({ members, primary }) => {
      arrange(members);
      const error = await errorOf(primary.open()) as NoPrimary;
      assert.instance(error, NoPrimary);
      assert.instance(error, Unavailable);
      assert.is(error.fault, fault);
      assert.is(primary.fault, fault);
      assert.match(error.message, words);
      if (fault === 'database') assert.match(error.remedy!, /^check DB_USER and DB_PASSWORD/);
    });
  });
}

test('a host that lies in the search is taken only when no other host is the primary', async () => {
  await withMembers(2, [0], async ({ members, pool, acquire }) => {
    const [liar, honest] = members as [Member, Member];
    liar.sessionRole = roleOf(false);
    honest.role = roleOf(true, { id: 'm1' });
    honest.hold();
    const opening = acquire();
    await eventually('the lie is found', () => liar.logins.sessions > 0);
    honest.release();
    pool.release(await opening);
    assert.is(honest.logins.sessions, 1);
  });
});

test('an account that may not see the group is asked without it from then on', async () => {
  await withMembers(2, [0], async ({ members, primary }) => {
    for (const member of members) member.groupError = 1142;
    const opened = [await primary.open(), await primary.open()];
    assert.equal(members[0]!.asked, { group: 1, flags: 3 });
    for (const connection of opened) connection.destroy();
  });
});

test('a primary that says no loses every session at once, lent ones too', async () => {
  await withMembers(2, [0], async ({ members, primary, pool, events, acquire, held }) => {
    const [old, next] = members as [Member, Member];
    const [lent, idle] = [await acquire(), await acquire()];
    pool.release(idle);
    void primary.watch();
    old.role = roleOf(false, { id: 'm0' });
    await eventually('the sessions are gone', () => lent.isDestroyed() && idle.isDestroyed());
    pool.release(lent);
    assert.equal(held(), [0, 0]);
    await eventually('the fault is known', () => primary.fault === 'read_only');
    const waiting = acquire();
    next.role = roleOf(true, { id: 'm1' });
    const connection = await waiting;
    assert.equal([next.sessions() > 0, primary.fault], [true, null]);
    assert.equal(events, [{ event: 'database_moved', from: old.label, to: next.label }]);
    const metrics = metricsOf(primary);
    assert.equal([metrics['otpd_database_moves_total'],
      metrics[`otpd_database_primary ${old.label}`], metrics[`otpd_database_primary ${next.label}`],
    ], [1, 0, 1]);
    pool.release(connection);
  });
});

test('silence costs no session until another host is the primary', async () => {
  await withMembers(2, [0], async ({ members, primary, pool, events, acquire }) => {
    const [silent, next] = members as [Member, Member];
    const [lent, idle] = [await acquire(), await acquire()];
    pool.release(idle);
    silent.hold();
    void primary.watch();
    await eventually('the fault is known', () => primary.fault === 'read_only');
    assert.equal([lent.isDestroyed(), idle.isDestroyed(), pool.idleCount], [false, false, 1]);
    next.role = roleOf(true, { id: 'm1' });
    await eventually('the sessions are gone', () => lent.isDestroyed() && idle.isDestroyed());
    assert.equal(events.map(({ event }) => event), ['database_moved']);
    pool.release(lent);
  });
});

test('silence that ends on the same host leaves the sessions as they are', async () => {
  await withMembers(2, [0], async ({ members, primary, pool, events, acquire }) => {
    const lent = await acquire();
    members[0]!.hold();
    void primary.watch();
    await eventually('the primary is not known', () => primary.fault !== null);
    members[0]!.release();
    await eventually('the primary is known', () => primary.fault === null);
    assert.equal([lent.isDestroyed(), events], [false, []]);
    pool.release(lent);
  });
});

test('a primary whose majority returns is found at once, without a login, and ends the search',
  async () => {
    await withMembers(3, [0], async ({ members, primary, acquire, pool }) => {
      const [first, ...others] = members as [Member, Member, Member];
      pool.release(await acquire());
      void primary.watch();
      await eventually('the watch has a session', () => first.asked.group >= 3);
      for (const other of others) other.hold();
      // On a busy machine a search may end before the watch asks again.
      await eventually('a search ends with it', async () => {
        first.role = roleOf(true, { id: 'm0', hasQuorum: false });
        await eventually('the fault is known', () => primary.fault === 'quorum');
        first.loginError = 1053;
        const finding = primary.find().catch(() => null);
        first.role = roleOf(true, { id: 'm0' });
        await eventually('the primary is known', () => primary.fault === null);
        return (await finding)?.port === portOf(first.settings);
      });
    });
  });

test('a silent host that says no when it is back loses its sessions', async () => {
  await withMembers(2, [0], async ({ members, primary, pool, acquire }) => {
    const lent = await acquire();
    members[0]!.hold();
    void primary.watch();
    await eventually('the primary is not known', () => primary.fault !== null);
    members[0]!.role = roleOf(false, { id: 'm0' });
    members[0]!.release();
    await eventually('the session is gone', () => lent.isDestroyed());
    pool.release(lent);
  });
});

test('nothing that was opened for an earlier primary comes in afterwards', async () => {
  await withMembers(2, [0], async ({ members, primary, pool, acquire, held }) => {
    const [old, next] = members as [Member, Member];
    pool.release(await acquire());
    pool.closeIdle();
    old.hold();
    const waiting = acquire();
    await eventually('it opens', () => pool.openingCount === 1);
    void primary.watch();
    next.role = roleOf(true, { id: 'm1' });
    const connection = await waiting;
    old.release();
    await eventually('the late session is closed', () => old.sessions() === 0);
    assert.equal([held(), next.sessions()], [[0, 1], 1]);
    pool.release(connection);
    assert.equal([held(), pool.openingCount], [[1, 0], 0]);
  });
});

test('an error that says that the primary has moved ends the search for it on that host alone',
  async () => {
    await withMembers(2, [0], async ({ members, primary, pool, acquire }) => {
      const connection = await acquire();
      members[0]!.role = roleOf(false, { id: 'm0' });
      members[1]!.role = roleOf(true, { id: 'm1' });
      pool.onMoved(connection);
      assert.is(connection.isDestroyed(), true);
      pool.release(connection);
      const other = await acquire();
      assert.is(members[1]!.sessions(), 1);
      pool.onMoved(connection);
      assert.equal([primary.fault, other.isDestroyed()], [null, false]);
      pool.release(other);
    });
  });

test('two hosts that take writes without a group are a split until one of them is read-only',
  async () => {
    await withMembers(2, [0], async ({ members, primary, pool, events, acquire }) => {
      pool.release(await acquire());
      members[1]!.role = roleOf(true, { id: 'm1' });
      void primary.watch();
      await eventually('the split is found', () => primary.fault === 'split');
      assert.equal(events,
        [{ event: 'database_split', hosts: members.map(({ label }) => label) }]);
      await eventually('no session is left', () => members[0]!.sessions() === 0);
      const error = await errorOf(primary.open()) as NoPrimary;
      assert.equal([error.fault, pool.idleCount], ['split', 0]);
      members[0]!.role = roleOf(false, { id: 'm0' });
      await eventually('it serves', () => primary.fault === null);
      pool.release(await acquire());
      assert.is(members[1]!.sessions(), 1);
      assert.is(events.length, 2);
    });
  });

test('an answer that was asked for before the split settles on no host', async () => {
  await withMembers(2, [0], async ({ members, primary, pool, acquire }) => {
    const [first, second] = members as [Member, Member];
    pool.release(await acquire());
    void primary.watch();
    await eventually('the hosts were compared', () => second.asked.group === 2);
    second.role = roleOf(true, { id: 'm1' });
    await eventually('a split is suspected', () => second.asked.group === 3);
    first.holdOpen();
    await eventually('the split is found', () => primary.fault === 'split');
    const compared = second.asked.group;
    first.release();
    await eventually('the hosts were compared again', () => second.asked.group > compared);
    const error = await errorOf(primary.open()) as NoPrimary;
    assert.equal([error.fault, primary.fault], ['split', 'split']);
  });
});

/** [what the two hosts are, ids, members] */
const ONE: [string, string[], string[][]][] = [
  ['two names of one server', ['m0', 'm0'], [[], []]],
  ['two members of one group', ['m0', 'm1'], [['m0', 'm1'], ['m0', 'm1']]],
  ['members of which one has expelled the other', ['m0', 'm1'], [['m0', 'm1'], ['m1']]],
];

for (const [what, ids, groups] of ONE) {
  test(`${what} are no split`, async () => {
    await withMembers(2, [], async ({ members, primary, acquire, pool, events }) => {
      members.forEach((member, index) => {
        member.role = roleOf(true, { id: ids[index]!, members: groups[index]! });
      });
      pool.release(await acquire());
      void primary.watch();
      await eventually('the hosts were compared', () =>
        members.every(({ logins }) => logins.others >= 2));
      assert.equal([primary.fault, events], [null, []]);
    });
  });
}

test('a single host is opened without a search, and serves again after it was read-only',
  async () => {
    await withMembers(1, [0], async ({ members: [member], primary, pool, events, acquire }) => {
      const lent = await acquire();
      assert.equal([member!.logins, member!.asked.group], [{ sessions: 1, others: 0 }, 1]);
      void primary.watch();
      member!.role = roleOf(false);
      await eventually('the session is gone', () => lent.isDestroyed());
      pool.release(lent);
      assert.is(primary.fault, 'read_only');
      member!.role = roleOf(true);
      await eventually('it is the primary', () => primary.fault === null);
      pool.release(await acquire());
      assert.equal(events, []);
    });
  });

test('a single host that refuses connections is reported as without a list', async () => {
  await withMembers(1, [0], async ({ members: [member], primary }) => {
    await member!.refuse();
    const error = await errorOf(primary.open());
    assert.match(error.message, /^cannot connect to the database: ECONNREFUSED$/);
    await member!.listen();
    (await primary.open()).destroy();
  });
});

test('the watch leaves the last connections of a server to requests', async () => {
  await withMembers(1, [0], async ({ members: [member], primary, pool, acquire }) => {
    const connection = await acquire();
    void primary.watch();
    await eventually('the watch has a session', () => member!.logins.others === 1);
    member!.loginError = 1040;
    const waiting = acquire();
    await eventually('the limit is known', () => member!.sessions() === 1
      && pool.waitingCount === 1);
    assert.equal([connection.isDestroyed(), primary.fault], [false, null]);
    pool.release(connection);
    assert.is(await waiting, connection);
    pool.release(connection);
  });
});

test.run();
