/** A COMMIT without a response: the commit probe finds out whether the COMMIT happened. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { StatementError, Unavailable } from '../../src/db/errors.ts';
import type { ConnectionPool } from '../../src/db/pool.ts';
import { transaction } from '../../src/db/transaction.ts';
import type { Transaction } from '../../src/db/transaction.ts';
import type { Message } from '../../src/otp/channels/channel.ts';
import type { Delivery } from '../../src/otp/delivery/delivery.ts';
import type { VerifyOutcome } from '../../src/otp/outcomes.ts';
import { createPolicies, DEFAULT_POLICY } from '../../src/otp/policy/policy.ts';
import type { Policy } from '../../src/otp/policy/policy.ts';
import { createOtpService } from '../../src/otp/service.ts';
import type { OtpService } from '../../src/otp/service.ts';
import { revokeDevices, unlockUser } from '../../src/otp/support.ts';
import { channelOf, createTestDelivery } from '../harness/delivery.ts';
import { recordCode } from '../harness/leak-recorder.ts';
import { newSecretsText, newSweeper, secretsOf } from '../harness/service.ts';
import { query, createFixture, includes, isCommit, rowsBy } from './tampered-connections.ts';
import { wrongCode } from './load.ts';
import type { Fixture, Tamper } from './tampered-connections.ts';
import { createGate, errorOf, eventually, promptly, timed } from '../harness/waiting.ts';

let fixture: Fixture;
let pool: ConnectionPool;
let id = 0;
let runs = 0;
const deliveries: Delivery[] = [];

/** Cuts the connection at the next COMMITs, before or after the server gets them. */
function cutCommit(moment: 'before' | 'after', times = 1): Tamper {
  let left = times;
  return async (name, connection, proceed) => {
    if (!isCommit(name) || left === 0) return proceed();
    left -= 1;
    if (moment === 'after') await proceed();
    connection.destroy();
    throw new StatementError(name, 'CONNECTION_LOST', 0, 'connectionLost');
  };
}

const isNoteStored = () => ({
  ...rowsBy('find', 'SELECT id FROM notes WHERE id = ? FOR UPDATE', [id]),
  read: (rows: readonly unknown[]) => rows.length === 1,
});

/** Inserts the note; a second run would fail with 1062 if the first had been committed. */
async function workWithoutProbe(tx: Transaction): Promise<number> {
  runs += 1;
  await query(tx, 'insertNote', 'INSERT INTO notes VALUES (?, ?)', [id, 'a']);
  return runs;
}

async function work(tx: Transaction): Promise<number> {
  tx.commitProbe(isNoteStored());
  return workWithoutProbe(tx);
}

test.before(async () => { fixture = await createFixture(); });
test.before.each(() => {
  pool = fixture.pool(4);
  id += 1;
  runs = 0;
});
test.after.each(() => fixture.closePools());
test.after(async () => {
  await Promise.all(deliveries.map((delivery) => delivery.stop(2000)));
  fixture.database.close();
});

test('a COMMIT that happened passes the result on, and nothing runs again', async () => {
  fixture.tamper(cutCommit('after'));
  assert.is(await transaction(pool, work), 1);
  assert.is(runs, 1);
  assert.ok((await fixture.ids()).includes(id));
});

test('a COMMIT that did not happen runs the transaction once more', async () => {
  fixture.tamper(cutCommit('before'));
  assert.is(await transaction(pool, work), 2);
  assert.is(runs, 2);
  assert.ok((await fixture.ids()).includes(id));
});

test('a rider learns whether a COMMIT without an answer happened', async () => {
  for (const moment of ['after', 'before'] as const) {
    id += 1;
    fixture.tamper(cutCommit(moment));
    const committed: boolean[] = [];
    await transaction(pool, (tx) => {
      tx.riders.push({ beforeCommit: () => {}, afterCommit: (is) => committed.push(is) });
      return work(tx);
    });
    assert.equal(committed, moment === 'after' ? [true] : [false, true]);
  }
});

test('a COMMIT that never happens is retried up to the bound', async () => {
  fixture.tamper(cutCommit('before', Infinity));
  assert.instance(await errorOf(transaction(pool, work)), Unavailable);
  assert.is(runs, 8);
  assert.not((await fixture.ids()).includes(id));
});

test('a lost COMMIT without a probe is Unavailable, and nothing runs again', async () => {
  fixture.tamper(cutCommit('after'));
  const error = await errorOf(transaction(pool, workWithoutProbe));
  assert.instance(error, Unavailable);
  assert.is(runs, 1);
});

test('a probe is repeated when its own connection is lost', async () => {
  const cut = cutCommit('after');
  let probes = 0;
  fixture.tamper(async (name, connection, proceed) => {
    if (!includes(name, 'find')) return cut(name, connection, proceed);
    probes += 1;
    if (probes > 2) return proceed();
    connection.destroy();
    throw new StatementError(name, 'CONNECTION_LOST', 0, 'connectionLost');
  });
  assert.is(await transaction(pool, work), 1);
  assert.equal([runs, probes], [1, 3]);
});

test('a probe waits for a COMMIT that is still in progress', async () => {
  const other = await fixture.connect();
  await other.run('insertNote', 'INSERT INTO notes VALUES (?, ?)', [id, 'a']);
  const asked = createGate();
  const cut = cutCommit('before');
  fixture.tamper(async (name, connection, proceed) => {
    if (includes(name, 'find')) asked.open();
    return cut(name, connection, proceed);
  });
  // The transaction writes nothing: the other connection stands for the server side of the lost
  // one.
  const ended = transaction(pool, async (tx) => {
    runs += 1;
    tx.commitProbe(isNoteStored());
    return runs;
  });
  await asked.promise;
  await other.run('commit', 'COMMIT', []);
  other.destroy();
  assert.is(await ended, 1);
  assert.is(runs, 1);
});

test('a probe without an answer in time is Unavailable within the bound', async () => {
  const other = await fixture.connect();
  await other.run('insertNote', 'INSERT INTO notes VALUES (?, ?)', [id, 'a']);
  fixture.tamper(cutCommit('before'));
  const { ms, result } = await promptly(() => timed(() =>
    errorOf(transaction(pool, async (tx) => {
      runs += 1;
      tx.commitProbe(isNoteStored());
    }))));
  other.destroy();
  assert.instance(result, Unavailable);
  assert.is(runs, 1);
  assert.ok(ms > 500, `${ms} ms`);
});

test('a probe with an SQL error does not count as an answer', async () => {
  fixture.tamper(cutCommit('after'));
  const error = await errorOf(transaction(pool, async (tx) => {
    await work(tx);
    tx.commitProbe({ ...isNoteStored(), sql: 'SELEC', values: [] });
  }));
  assert.is((error as StatementError).errno, 1064);
  assert.is(runs, 1);
});

test('an error of the server at COMMIT is a rollback and needs no probe', async () => {
  let probes = 0;
  fixture.tamper(async (name, _, proceed) => {
    if (includes(name, 'find')) probes += 1;
    if (name === 'commit' && runs === 1) throw new StatementError(name, 'X', 3101, 'retry');
    return proceed();
  });
  assert.is(await transaction(pool, work), 2);
  assert.equal([runs, probes], [2, 0]);
});

/** Two services on the pool of the fixture, in place of two processes, with all their messages. */
function startServices(numbers: Partial<Policy> = {}) {
  const messages: Message[] = [];
  const policies = createPolicies({ ...DEFAULT_POLICY, ...numbers });
  const settings = { policies, secrets: secretsOf(newSecretsText()) };
  const channel = channelOf((message) => {
    messages.push(message);
    return { kind: 'accepted' };
  });
  // The delivery has its own connections, which are not tampered with.
  const delivery = createTestDelivery({
    ...settings, pool: fixture.database.pool, channels: [channel],
  });
  deliveries.push(delivery);
  const deps = { pool, ...settings, sweeper: newSweeper(settings), delivery };
  const pair = { userId: `u${id}`, purpose: 'p' };
  const [service, other] = [createOtpService(deps), createOtpService(deps)];
  const request = async (
    by: OtpService,
    key: string,
    userId = pair.userId,
    deviceTokens = '',
  ): Promise<Message> => {
    const before = messages.length;
    const names = { ...pair, userId, clientIp: `10.0.0.${id}`, key, apiClient: null, deviceTokens };
    await by.request({ ...names, clientNet48: null, acceptLanguage: '' }, isWanted);
    // A message is sent after the response.
    await eventually('the message is sent', () => messages.length > before);
    return messages[before]!;
  };
  const unlock = (userId: string) => unlockUser({ pool, ...settings }, userId, null);
  const revokeAll = () => revokeDevices({ pool, ...settings }, pair.userId, null);
  return { service, other, messages, pair, request, unlock, revokeAll };
}

const isWanted = (): boolean => true;

/** The next COMMIT happens or not, `between` runs, and then the connection is reported as lost. */
function cutAfterwards(between: () => Promise<unknown>, happens = true): Tamper {
  let isArmed = true;
  return async (name, connection, proceed) => {
    if (!isCommit(name) || !isArmed) return proceed();
    isArmed = false;
    if (happens) await proceed();
    connection.destroy();
    await between();
    throw new StatementError(name, 'CONNECTION_LOST', 0, 'connectionLost');
  };
}

/** Loses the next COMMIT, and every probe of it until `isOver`. */
function loseCommitAndProbes(happens: boolean, isOver: () => boolean): Tamper {
  const cut = cutAfterwards(async () => {}, happens);
  return async (name, connection, proceed) => {
    if (name !== 'otps.find_key rollback' || isOver()) return cut(name, connection, proceed);
    connection.destroy();
    throw new StatementError(name, 'CONNECTION_LOST', 0, 'connectionLost');
  };
}

for (const happens of [true, false]) {
  test(`the message of a request whose outcome stays unknown is sent once, before its lease ends
    (the COMMIT ${happens ? 'happened' : 'did not happen'})`, async () => {
    const { service, messages, pair } = startServices();
    const ask = () => service.request({
      ...pair, clientIp: `10.0.0.${id}`, clientNet48: null, key: `k${id}`, apiClient: null,
      acceptLanguage: '',
    }, isWanted);
    let isOver = false;
    fixture.tamper(loseCommitAndProbes(happens, () => isOver));
    assert.instance(await errorOf(ask()), Unavailable);
    isOver = true;
    // Nothing reclaims here, so only the process that has the batch can send it.
    if (happens) await eventually('the message is sent', () => messages.length === 1);
    const again = await ask();
    assert.is(again.kind === 'issued' && again.replayed, happens);
    await eventually('the message is sent', () => messages.length === 1);
    await eventually('the outbox is empty', async () =>
      (await fixture.database.query('SELECT 1 FROM outbox')).length === 0);
    assert.is(messages.length, 1);
    assert.is(messages[0]!.otpId, again.kind === 'issued' ? again.otpId : '');
  });
}

const NOBODY = Object.freeze({ clientIp: null, clientNet48: null, key: null, apiClient: null });

async function wrongCodesOf(userId: string): Promise<unknown> {
  const [row] = await fixture.database.query(
    'SELECT consecutive_wrong AS n FROM otps WHERE user_id = ? ORDER BY number DESC', [userId]);
  return row?.n;
}

for (const happens of [true, false]) {
  test(`a wrong code whose COMMIT was lost counts once, even after another one
    (${happens ? 'the COMMIT happened' : 'the COMMIT did not happen'})`, async () => {
    const { service, other, pair, request } = startServices();
    const { code } = await request(service, `k${id}`);
    const guess = (by: OtpService, index: number) =>
      by.verify({ ...pair, ...NOBODY, code: wrongCode(code, index) }, isWanted);
    fixture.tamper(cutAfterwards(() => guess(other, 2), happens));
    assert.is((await guess(service, 1)).kind, 'wrong');
    assert.is(await wrongCodesOf(pair.userId), 2);
  });
}

test('a right code whose COMMIT was lost is never called wrong, even after later requests',
  async () => {
    const { service, other, pair, request } = startServices();
    const { code } = await request(service, `k${id}`);
    fixture.tamper(cutAfterwards(async () => {
      const later = await request(other, `l${id}`);
      await other.verify({ ...pair, ...NOBODY, code: wrongCode(later.code) }, isWanted);
    }));
    const outcome = await service.verify({ ...pair, ...NOBODY, code }, isWanted);
    assert.is(outcome.kind, 'verified');
    assert.is(await wrongCodesOf(pair.userId), 1);
  });

test('an attempt that later ones have hidden is not guessed, and its batch is still decided',
  async () => {
    const { service, other, pair, request } = startServices({ wrongAttempts: 10 });
    const { code } = await request(service, `k${id}`);
    const guess = (by: OtpService, index: number) =>
      by.verify({ ...pair, ...NOBODY, code: wrongCode(code, index) }, isWanted);
    const hide = async (): Promise<void> => {
      for (const index of [2, 3, 4, 5]) await guess(other, index);
    };
    fixture.tamper(cutAfterwards(hide));
    assert.instance(await errorOf(guess(service, 1)), Unavailable);
    assert.is(await wrongCodesOf(pair.userId), 5);

    // The other request of the batch proves that both were committed.
    const neighbour = { ...pair, userId: `v${id}` };
    const right = (await request(service, `l${id}`, neighbour.userId)).code;
    fixture.tamper(cutAfterwards(hide));
    const [wrong, verified] = await Promise.all([
      guess(service, 1), service.verify({ ...neighbour, ...NOBODY, code: right }, isWanted),
    ]);
    assert.equal([wrong.kind, verified.kind], ['wrong', 'verified']);
    assert.is(await wrongCodesOf(pair.userId), 10);
  });

/** Two services that trust devices, and a user with tokens of this many devices. */
async function startTrusting(count: number) {
  const started = startServices({ deviceDays: 30 });
  const { service, pair, request } = started;
  const tokens: string[] = [];
  for (let nth = 0; nth < count; nth += 1) {
    const { code } = await request(service, `t${nth}.${id}`);
    const outcome = await service.verify({ ...pair, ...NOBODY, code }, isWanted);
    tokens.push(outcome.kind === 'verified' ? outcome.deviceToken! : '');
  }
  return { ...started, tokens };
}

const wordsOf = (happens: boolean): string =>
  (happens ? 'the COMMIT happened' : 'the COMMIT did not happen');

async function wrongByDevice(userId: string): Promise<number[]> {
  const rows = await fixture.database.query(
    'SELECT SUM(consecutive_wrong) AS n FROM otps WHERE user_id = ? GROUP BY device', [userId]);
  return rows.map(({ n }) => Number(n)).sort();
}

for (const happens of [true, false]) {
  test(`the success of a device whose COMMIT was lost returns one token, also to a repeat
    (${wordsOf(happens)})`, async () => {
    const { service, other, pair, request, revokeAll, tokens } = await startTrusting(1);
    const { code } = await request(service, `k${id}`, pair.userId, tokens[0]);
    const verify = (by: OtpService) => by.verify(
      { ...pair, ...NOBODY, code, key: `v${id}`, deviceTokens: tokens[0]! }, isWanted);
    // A stranger's later code has a higher number.
    fixture.tamper(cutAfterwards(() => request(other, `l${id}`), happens));
    const first = await verify(service);
    assert.is(first.kind === 'verified' && first.replayed, false);
    const token = first.kind === 'verified' ? first.deviceToken : undefined;
    assert.type(token, 'string');
    assert.equal(await verify(other), { kind: 'verified', replayed: true, deviceToken: token });
    await revokeAll();
    assert.equal(await verify(other), { kind: 'verified', replayed: true, deviceToken: token });
  });

  test(`the wrong code of a device whose COMMIT was lost counts once, for that device
    (${wordsOf(happens)})`, async () => {
    const { service, other, pair, request, tokens: [one, two] } = await startTrusting(2);
    const { code } = await request(service, `k${id}`, pair.userId, one);
    const guess = (by: OtpService, index: number, deviceTokens = '') => by.verify(
      { ...pair, ...NOBODY, code: wrongCode(code, index), deviceTokens }, isWanted);
    fixture.tamper(cutAfterwards(async () => {
      await request(other, `l${id}`, pair.userId, two);
      await guess(other, 1, two);
      await request(other, `m${id}`);
      for (const index of [2, 3]) await guess(other, index);
    }, happens));
    assert.equal(await guess(service, 1, one), { kind: 'wrong', attemptsRemaining: 2 });
    assert.equal(await wrongByDevice(pair.userId), [1, 1, 2]);
  });

  test(`a device gets one code from a request whose COMMIT was lost
    (${wordsOf(happens)})`, async () => {
    const { service, other, pair, request, tokens } = await startTrusting(1);
    const ask = (by: OtpService) => by.request({ ...pair, clientIp: null, clientNet48: null,
      key: `k${id}`, apiClient: null, acceptLanguage: '', deviceTokens: tokens[0]! }, isWanted);
    fixture.tamper(cutAfterwards(() => request(other, `l${id}`), happens));
    const first = await ask(service);
    const again = await ask(other);
    assert.ok(first.kind === 'issued' && again.kind === 'issued' && again.replayed);
    assert.equal([first.replayed, first.remainingRequests], [false, 2]);
    assert.is(again.otpId, first.otpId);
    const rows = await fixture.database.query(
      "SELECT 1 FROM otps WHERE user_id = ? AND device <> ''", [pair.userId]);
    assert.is(rows.length, 1);
  });

  test(`a revocation whose COMMIT was lost is acknowledged once no token is valid
    (${wordsOf(happens)})`, async () => {
    const { service, pair, request, revokeAll, tokens } = await startTrusting(1);
    const { code } = await request(service, `k${id}`, pair.userId, tokens[0]);
    for (const clock of ['right', 'right', 'set back'] as const) {
      if (clock === 'set back') {
        await fixture.database.query(`UPDATE device_revocations
          SET revoked_at = NOW(6) + INTERVAL 1 DAY WHERE user_id = ?`, [pair.userId]);
      }
      fixture.tamper(cutAfterwards(async () => {}, happens));
      await revokeAll();
      const rows = await fixture.database.query(`SELECT revoked_at <= NOW(6) AS is_past
        FROM device_revocations WHERE user_id = ? AND device = ''`, [pair.userId]);
      assert.equal(rows.map((row) => Number(row.is_past)), [1], `the clock was ${clock}`);
    }
    const attempt = { ...pair, ...NOBODY, code, deviceTokens: tokens[0]! };
    assert.is((await service.verify(attempt, isWanted)).kind, 'used', 'the code of the strangers');
  });
}

for (const happens of [true, false]) {
  test(`a wrong code that locks the account locks it once, though its COMMIT was lost
    (${happens ? 'the COMMIT happened' : 'the COMMIT did not happen'})`, async () => {
    const { service, other, pair, request, unlock }
      = startServices({ wrongAttemptsUntilUnlock: 3 });
    const { code } = await request(service, `k${id}`);
    const guess = (by: OtpService, index: number) =>
      by.verify({ ...pair, ...NOBODY, code: wrongCode(code, index) }, isWanted);
    for (const index of [1, 2]) assert.is((await guess(other, index)).kind, 'wrong');
    const locks: VerifyOutcome[] = [];
    fixture.tamper(cutAfterwards(async () => { locks.push(await guess(other, 3)); }, happens));
    locks.push(await guess(service, 4));
    assert.equal(locks, [!happens, happens].map((begins) => ({ kind: 'account_locked', begins })));
    assert.is(await wrongCodesOf(pair.userId), 3);
    const rows = await fixture.database.query('SELECT consecutive_wrong AS n FROM wrong_counts');
    assert.equal(rows.map(({ n }) => n), [65_535]);
    fixture.tamper(cutAfterwards(async () => {}, happens));
    const { outcome } = await unlock(pair.userId);
    assert.is(outcome, 'unlocked');
    assert.is(await wrongCodesOf(pair.userId), 0);
    assert.equal(await fixture.database.query('SELECT * FROM wrong_counts'), []);
  });
}

/** The wrong codes that the limit of a client IP has counted. */
async function countedFrom(clientIp: string): Promise<number> {
  const [row] = await fixture.database.query(
    'SELECT COALESCE(SUM(points), 0) AS n FROM limit_hits WHERE subject = ?', [clientIp]);
  return Number(row?.n);
}

for (const happens of [true, false]) {
  test(`a wrong code of a limited client IP whose COMMIT was lost counts once
    (${happens ? 'the COMMIT happened' : 'the COMMIT did not happen'})`, async () => {
    const { service, other, pair, request } = startServices({ wrongCodesLimit: 9 });
    const { code } = await request(service, `k${id}`);
    const clientIp = `10.1.0.${id}`;
    const guess = (by: OtpService, index: number) =>
      by.verify({ ...pair, ...NOBODY, clientIp, code: wrongCode(code, index) }, isWanted);
    fixture.tamper(cutAfterwards(() => guess(other, 2), happens));
    assert.is((await guess(service, 1)).kind, 'wrong');
    assert.equal([await wrongCodesOf(pair.userId), await countedFrom(clientIp)], [2, 2]);
  });

  test(`an erased key whose COMMIT was lost is erased and counted once
    (${happens ? 'the COMMIT happened' : 'the COMMIT did not happen'})`, async () => {
    const { service, other, pair, request } = startServices({ wrongCodesLimit: 9 });
    const { code } = await request(service, `k${id}`);
    const clientIp = `10.1.0.${id}`;
    const key = `v${id}`;
    const verify = (by: OtpService, given: string) =>
      by.verify({ ...pair, ...NOBODY, clientIp, key, code: given }, isWanted);
    assert.is((await verify(service, code)).kind, 'verified');
    const between: string[] = [];
    fixture.tamper(cutAfterwards(async () => {
      between.push((await verify(other, code)).kind);
    }, happens));
    assert.is((await verify(service, wrongCode(code))).kind, 'key_reused');
    assert.is((await verify(service, code)).kind, 'used');
    assert.equal(between, [happens ? 'used' : 'verified']);
    assert.is(await countedFrom(clientIp), 1);
  });
}

test('of two other uses of a key whose COMMIT was lost the one that erased it is refused',
  async () => {
    const { service, other, pair, request } = startServices({ wrongCodesLimit: 9 });
    const { code } = await request(service, `k${id}`);
    const key = `v${id}`;
    const verify = (by: OtpService, given: string) =>
      by.verify({ ...pair, ...NOBODY, clientIp: `10.1.0.${id}`, key, code: given }, isWanted);
    assert.is((await verify(service, code)).kind, 'verified');
    const between: string[] = [];
    fixture.tamper(cutAfterwards(async () => {
      between.push((await verify(other, wrongCode(code, 1))).kind);
    }, false));
    assert.is((await verify(service, wrongCode(code))).kind, 'used');
    assert.equal(between, ['key_reused']);
  });

// The lock order: another transaction that has the counter may wait for the key.
test('the counter of a client IP is locked with the key that is erased, though it is new',
  async () => {
    const { service, pair, request } = startServices({ wrongCodesLimit: 9 });
    const { code } = await request(service, `k${id}`);
    const clientIp = `10.1.0.${id}`;
    const verify = (given: string) =>
      service.verify({ ...pair, ...NOBODY, clientIp, key: `v${id}`, code: given }, isWanted);
    assert.is((await verify(code)).kind, 'verified');
    const stranger = await fixture.connect();
    const refusals: unknown[] = [];
    fixture.tamper(async (name, _, proceed) => {
      const answer = await proceed();
      if (includes(name, 'idempotency_keys.lock')) {
        refusals.push(await errorOf(stranger.run('x', `SELECT 1 FROM limit_hits
          WHERE subject = '${clientIp}' AND kind = 3 AND number = 0 FOR UPDATE NOWAIT`, [])));
      }
      return answer;
    });
    assert.is((await verify(wrongCode(code))).kind, 'key_reused');
    stranger.destroy();
    assert.equal(refusals.map((error) => (error as StatementError).errno), [3572]);
    assert.is(await countedFrom(clientIp), 1);
  });

test('an erasure whose row the sweep has removed meanwhile is not guessed', async () => {
  const { service, pair, request } = startServices();
  const { code } = await request(service, `k${id}`);
  const verify = (given: string) =>
    service.verify({ ...pair, ...NOBODY, key: `v${id}`, code: given }, isWanted);
  assert.is((await verify(code)).kind, 'verified');
  fixture.tamper(cutAfterwards(() =>
    fixture.database.query('DELETE FROM idempotency_keys WHERE expires_at <= NOW(6)')));
  assert.instance(await errorOf(verify(wrongCode(code))), Unavailable);
  assert.is((await verify(code)).kind, 'used');
});

test('a second round trip that loses its connection runs the batch again', async () => {
  const { service, pair, request } = startServices({ wrongCodesLimit: 9 });
  const { code } = await request(service, `k${id}`);
  let isArmed = true;
  fixture.tamper(async (name, connection, proceed) => {
    if (!isArmed || !includes(name, 'limit_hits.lock')) return proceed();
    isArmed = false;
    await proceed();
    connection.destroy();
    throw new StatementError(name, 'CONNECTION_LOST', 0, 'connectionLost');
  });
  const guess = { ...pair, ...NOBODY, clientIp: `10.1.0.${id}`, code: wrongCode(code) };
  assert.equal(await service.verify(guess, isWanted), { kind: 'wrong', attemptsRemaining: 2 });
  assert.not(isArmed);
  assert.equal([await wrongCodesOf(pair.userId), await countedFrom(guess.clientIp)], [1, 1]);
});

test('a right code does not wait for the counter of its client IP, and a wrong one does',
  async () => {
    const { service, pair, request } = startServices();
    const neighbour = { ...pair, userId: `v${id}` };
    const [code, otherCode] = [(await request(service, `k${id}`)).code,
      (await request(service, `l${id}`, neighbour.userId)).code];
    const clientIp = `10.5.0.${id}`;
    const verify = (who: typeof pair, given: string) =>
      service.verify({ ...who, ...NOBODY, clientIp, code: given }, isWanted);
    assert.is((await verify(neighbour, wrongCode(otherCode))).kind, 'wrong');
    const holder = await fixture.connect();
    await holder.run('hold', 'SELECT 1 FROM limit_hits WHERE subject = ? FOR UPDATE', [clientIp]);
    assert.is((await promptly(() => verify(pair, code))).kind, 'verified');
    const locking = createGate();
    fixture.tamper(async (name, _, proceed) => {
      if (includes(name, 'limit_hits.lock')) locking.open();
      return proceed();
    });
    let isDecided = false;
    const wrong = verify(neighbour, wrongCode(otherCode, 1)).finally(() => { isDecided = true; });
    await locking.promise;
    assert.not(isDecided);
    holder.destroy();
    assert.is((await wrong).kind, 'wrong');
  });

test('a batch whose locked counts show another wrong code takes the lock for that one too',
  async () => {
    const { service, other, pair, request } = startServices({ wrongCodesLimit: 2 });
    const { code } = await request(service, `k${id}`);
    const neighbour = { ...pair, userId: `v${id}` };
    const { code: otherCode } = await request(service, `l${id}`, neighbour.userId);
    const [first, second] = [`10.2.0.${id}`, `10.3.0.${id}`];
    const guess = (by: OtpService, clientIp: string, index: number) =>
      by.verify({ ...pair, ...NOBODY, clientIp, code: wrongCode(code, index) }, isWanted);
    for (const index of [1, 2]) await guess(service, `10.4.0.${id}`, index);
    const locks: string[] = [];
    fixture.tamper(async (name, _, proceed) => {
      if (!includes(name, 'limit_hits.lock')) return proceed();
      locks.push(name);
      // Between the two round trips another process uses up the limit of the first client IP.
      for (const index of locks.length === 1 ? [3, 4] : []) {
        const wrong = wrongCode(otherCode, index);
        await other.verify({ ...neighbour, ...NOBODY, clientIp: first, code: wrong }, isWanted);
      }
      return proceed();
    });
    const outcomes = await Promise.all([guess(service, first, 5), guess(service, second, 6)]);
    assert.equal(outcomes.map(({ kind }) => kind), ['limited', 'locked']);
    assert.equal([await countedFrom(first), await countedFrom(second)], [2, 1]);
    assert.is(await wrongCodesOf(pair.userId), 3);
  });

test('every code of a lost cancellation is canceled, though another process canceled some',
  async () => {
    const { service, other, pair, request } = startServices();
    const neighbour = `v${id}`;
    const ids = [(await request(service, `k${id}`)).otpId,
      (await request(service, `l${id}`, neighbour)).otpId] as const;
    const cancelIn = (one: OtpService, otpId: string) =>
      one.cancel({ otpId, apiClient: null }, isWanted);
    fixture.tamper(cutAfterwards(() => cancelIn(other, ids[0]), false));
    const outcomes = await Promise.all(ids.map((otpId) => cancelIn(service, otpId)));
    assert.equal(outcomes.map(({ kind }) => kind), ['canceled', 'canceled']);
    const rows = await fixture.database.query(
      'SELECT close_reason FROM otps WHERE user_id IN (?, ?)', [pair.userId, neighbour]);
    assert.equal(rows.map(({ close_reason }) => close_reason), ['canceled', 'canceled']);
  });

for (const happens of [true, false]) {
  test(`the message of a report whose COMMIT was lost is sent by the next channel, once
    (the COMMIT ${happens ? 'happened' : 'did not happen'})`, async () => {
    const settings = { policies: createPolicies(), secrets: secretsOf(newSecretsText()) };
    let path = '';
    const sent: string[] = [];
    const sms = channelOf(() => ({ kind: 'accepted' }), {
      name: 'sms',
      readReport: () => ({ kind: 'failed', reason: 'undelivered' }),
      send: async ({ code }, _sentAt, reportPath = '') => {
        recordCode(code);
        path = reportPath;
        return { kind: 'accepted' };
      },
    });
    const webhook = channelOf(({ otpId }) => {
      sent.push(otpId);
      return { kind: 'accepted' };
    }, { name: 'webhook' });
    const delivery = createTestDelivery({ ...settings, pool, channels: [sms, webhook] });
    deliveries.push(delivery);
    const sweeper = newSweeper(settings);
    const service = createOtpService({ pool, ...settings, sweeper, delivery });
    const names = { userId: `u${id}`, purpose: 'p', clientIp: null, clientNet48: null };
    const issued = await service.request({
      ...names, key: `k${id}`, apiClient: null, acceptLanguage: '',
    }, isWanted);
    const otpId = issued.kind === 'issued' ? issued.otpId : '';
    const untilEmpty = () => eventually('the outbox is empty', async () =>
      (await fixture.database.query('SELECT 1 FROM outbox')).length === 0);
    await untilEmpty();
    fixture.tamper(cutAfterwards(async () => {}, happens));
    const [keyId = '', sealed = ''] = path.split('/').slice(-2);
    const report = { otpId, keyId, sealed, body: '' };
    assert.equal(await service.report!(report, isWanted), { kind: 'noted' });
    await eventually('it is sent', () => sent.length > 0);
    await untilEmpty();
    assert.equal(await service.report!(report, isWanted), { kind: 'noted' });
    assert.equal(sent, [otpId]);
  });
}

test.run();
