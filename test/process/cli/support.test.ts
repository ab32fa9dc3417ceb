/** `otpd show`, `unlock` and `cancel` on a real service with a clock that the test sets. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { cancel, show, unlock } from '../../../src/app/cli/support.ts';
import type { Report } from '../../../src/app/output.ts';
import { lockOtps } from '../../../src/db/tables/otps.ts';
import { transaction } from '../../../src/db/transaction.ts';
import { createPseudonyms } from '../../../src/otp/crypto/secrets.ts';
import { createPolicies, DEFAULT_POLICY } from '../../../src/otp/policy/policy.ts';
import { closeClient, post } from '../../harness/client.ts';
import { createTestDatabase } from '../../harness/database.ts';
import type { TestDatabase } from '../../harness/database.ts';
import { newSecretsText, secretsOf, startTestService } from '../../harness/service.ts';
import type { ChannelState, TestService } from '../../harness/service.ts';
import { createGate, eventually } from '../../harness/waiting.ts';

const policies = createPolicies();
const secrets = secretsOf(newSecretsText());
let database: TestDatabase;
let service: TestService;

test.before(async () => {
  database = await createTestDatabase();
  service = await startTestService({ pool: database.pool, secrets });
});

test.after(async () => {
  closeClient();
  await service.close();
  database.close();
});

async function request(user: string, key: string): Promise<string> {
  const body = { user_id: user, purpose: 'login' };
  const call = { port: service.port, path: '/otp/request', key, body };
  const { status, body: reply } = await post(call);
  assert.is(status, 201);
  await eventually('the message is sent', async () =>
    (await database.query('SELECT 1 FROM outbox')).length === 0);
  return reply.otp_id as string;
}

async function guess(user: string): Promise<void> {
  const code = service.messages.findLast(({ userId }) => userId === user)!.code;
  const wrong = String((Number(code) + 1) % 1_000_000).padStart(6, '0');
  const body = { user_id: user, purpose: 'login', code: wrong };
  await post({ port: service.port, path: '/otp/verify', body });
}

function showUser(user: string): Promise<Report> {
  return show({ pool: database.pool, policies, secrets }, user);
}

function logName(user: string): string {
  return createPseudonyms(secrets.current).user(user);
}

test('show reports the points, attempts, locks and OTPs of a user', async () => {
  database.clock.set('2026-01-05 08:00:00.000001');
  const otpId = await request('U1', 'a');
  database.clock.set('2026-01-05 08:01:00');
  await guess('U1');
  const { isDone, lines, data } = await showUser('U1');
  assert.ok(isDone);
  assert.equal(data, {
    outcome: 'known',
    user_id: 'U1',
    log_user: logName('U1'),
    now: '2026-01-05T08:01:00.000000Z',
    account: { locked: false, wrong_in_a_row: 1, wrong_in_a_row_max: 100,
      untrusted_locked: false, untrusted_wrong_in_a_row_max: 100 },
    purposes: [{
      purpose: 'login',
      device: null,
      limit: { quota: 3, remaining: 2, free_at: ['2026-01-05T08:15:00.000001Z'] },
      locked: false,
      locked_until: null,
      wrong_attempts: 1,
      wrong_attempts_max: 3,
      wrong_in_a_row: 1,
      last_code: {
        otp_id: otpId,
        status: 'sent',
        channel: 'console',
        created_at: '2026-01-05T08:00:00.000001Z',
        expires_at: '2026-01-05T08:05:00.000001Z',
        redeemed_at: null,
        delivery_failure: null,
      },
    }],
    devices: [],
  });
  assert.equal(lines, [
    `user U1 at 2026-01-05T08:01:00.000000Z; in the log: ${logName('U1')}`,
    'account     1 of 100 wrong in a row until an operator must unlock',
    'purpose login',
    '  limit     2 of 3 codes left; one becomes free at 2026-01-05T08:15:00.000001Z',
    '  lock      none',
    '  attempts  1 of 3 wrong until a lock, 1 wrong in a row',
    `  code      ${otpId} sent by console, created 2026-01-05T08:00:00.000001Z, `
      + 'expires 2026-01-05T08:05:00.000001Z',
  ]);
  assert.not.match(JSON.stringify([lines, data]), service.messages[0]!.code);
});

test('show reports a daily limit where the policy has one', async () => {
  const limited = createPolicies({ ...DEFAULT_POLICY, userDailyLimit: 4 },
    new Map([['pay', { ...DEFAULT_POLICY, userDailyLimit: 2 }]]));
  const other = await startTestService({ pool: database.pool, secrets, policies: limited });
  database.clock.set('2026-01-04 08:00:00');
  for (const [index, purpose] of ['login', 'pay', 'login'].entries()) {
    const body = { user_id: 'U9', purpose };
    const call = { port: other.port, path: '/otp/request', key: `daily${index}`, body };
    await post(call);
    database.clock.set(`2026-01-04 09:0${index}:00`);
  }
  const { data, lines } = await show({ pool: database.pool, policies: limited, secrets }, 'U9');
  const purposes = data.purposes as { daily_limit: unknown }[];
  const free_at = '2026-01-05T08:00:00.000000Z';
  assert.equal(purposes.map(({ daily_limit }) => daily_limit), [
    { quota: 2, remaining: 0, free_at }, { quota: 4, remaining: 1, free_at },
  ]);
  assert.ok(lines.includes(`  daily     1 of 4 codes left; one becomes free at ${free_at}`));
  database.clock.set('2026-01-05 09:01:00');
  const later = await show({ pool: database.pool, policies: limited, secrets }, 'U9');
  assert.ok(later.lines.includes('  daily     4 of 4 codes left'));
  assert.ok((await showUser('U9')).lines.every((line) => !line.includes('daily')));
  await other.close();
});

test('show reports when a lock ends, or that only an operator can unlock', async () => {
  database.clock.set('2026-01-05 09:00:00');
  await request('U2', 'b');
  for (let tries = 0; tries < 3; tries += 1) await guess('U2');
  assert.match((await showUser('U2')).lines.join('\n'),
    /\n {2}lock {6}until 2026-01-05T09:10:00.000000Z\n {2}attempts {2}3 of 3 wrong until/);
  database.clock.set('2026-01-05 09:09:59.999999');
  assert.match((await showUser('U2')).lines.join('\n'), /lock {6}until/);
  database.clock.set('2026-01-05 09:10:00');
  assert.match((await showUser('U2')).lines.join('\n'), /lock {6}none/);
  await database.query('UPDATE otps SET consecutive_wrong = 100 WHERE user_id = ?', ['U2']);
  assert.match((await showUser('U2')).lines.join('\n'),
    /\naccount {5}locked until an operator runs otpd unlock, 100 wrong in a row\n/);
  const deps = { pool: database.pool, policies, secrets };
  assert.ok((await unlock(deps, 'U2', null)).isDone);
  assert.match((await showUser('U2')).lines.join('\n'),
    /account {5}0 of 100 wrong.*\n {2}lock {6}none\n {2}attempts {2}0 of 3.* 0 wrong in a row/s);
});

test('unlock says what still refuses the user, and whether there was a lock', async () => {
  const deps = { pool: database.pool, policies, secrets };
  const unlockPair = () => unlock(deps, 'U7', 'login');
  const unknown = await unlockPair();
  assert.equal([unknown.isDone, unknown.lines], [false, ['no record of this user and purpose']]);
  database.clock.set('2026-01-05 10:00:00.5');
  await request('U7', 'h');
  assert.equal((await unlockPair()).lines, ['was not locked; the user can request a code now']);
  database.clock.set('2026-01-05 10:01:00');
  await request('U7', 'i');
  await request('U7', 'j');
  for (let tries = 0; tries < 3; tries += 1) await guess('U7');
  const { lines, data } = await unlockPair();
  assert.equal(lines, [
    'unlocked; next code at 2026-01-05T10:15:01.000000Z, by the limits: user',
  ]);
  assert.equal(data, { outcome: 'unlocked', user_id: 'U7', purpose: 'login',
    next_code_at: '2026-01-05T10:15:01.000000Z', limited_by: ['user'] });
  assert.match((await unlockPair()).lines.join(), /^was not locked; next code at .*: user$/);
  database.clock.set('2026-01-05 10:15:01');
  const then = await unlockPair();
  assert.equal([then.lines, then.data.next_code_at],
    [['was not locked; the user can request a code now'], null]);
  await request('U7', 'k');
});

test('show reports the last failure of a delivery, while it is retried and after the OTP is closed',
  async () => {
    const state: ChannelState = { sendResult: 'retry' };
    const failing = await startTestService({ pool: database.pool, secrets, state });
    database.clock.set('2026-01-05 09:30:00');
    const body = { user_id: 'U8', purpose: 'login' };
    await post({ port: failing.port, path: '/otp/request', key: 'failing', body });
    const untilShown = (pattern: RegExp) => eventually(`show matches ${pattern}`, async () =>
      pattern.test((await showUser('U8')).lines.join('\n')));
    await untilShown(/ pending .*\n {2}delivery {2}last failed by console: the channel said retry/);
    state.sendResult = 'refused';
    await untilShown(/ failed .*\n {2}delivery {2}last failed by console: .* refused/);
    const { data, lines } = await showUser('U8');
    const [{ last_code: code }] = data.purposes as [{ last_code: Record<string, unknown> }];
    assert.equal(code.delivery_failure,
      { channel: 'console', reason: 'the channel said refused' });
    assert.not.match(JSON.stringify([lines, data]), failing.messages[0]!.code);
    await failing.close();
  });

test('unlock ends the lock of an account, of all purposes or of what one of them counts',
  async () => {
    const deps = { pool: database.pool, policies, secrets };
    const setWrong = (purpose: string, count: number) => database.query(
      'UPDATE otps SET consecutive_wrong = ? WHERE user_id = ? AND purpose = ?',
      [count, 'U10', purpose]);
    assert.equal((await unlock(deps, 'U10', null)).lines, ['no record of this user']);
    database.clock.set('2026-01-05 10:30:00');
    await request('U10', 'm');
    const call = { port: service.port, path: '/otp/request' };
    await post({ ...call, key: 'n', body: { user_id: 'U10', purpose: 'pay' } });
    await setWrong('login', 30);
    await setWrong('pay', 70);
    assert.is((await post({ ...call, key: 'o', body: { user_id: 'U10', purpose: 'x' } })).status,
      403);
    const other = await unlock(deps, 'U10', 'x');
    assert.equal([other.isDone, other.lines], [false, ['no record of this user and purpose']]);
    await setWrong('pay', 200);
    const one = await unlock(deps, 'U10', 'login');
    assert.equal([one.isDone, one.lines, one.data], [false,
      ['was not locked; the account is still locked; run otpd unlock USER without a purpose'],
      { outcome: 'not_locked', user_id: 'U10', purpose: 'login', next_code_at: null,
        limited_by: ['account'] }]);
    const all = await unlock(deps, 'U10', null);
    assert.equal([all.isDone, all.lines], [true, ['unlocked; the user can request a code now']]);
    const free = { next_code_at: null, limited_by: [] };
    assert.equal(all.data, { outcome: 'unlocked', user_id: 'U10',
      purposes: [{ purpose: 'login', ...free }, { purpose: 'pay', ...free }] });
    const { time, ...logged } = JSON.parse(all.note!);
    assert.ok(Date.parse(time) > 0);
    assert.equal(logged, { level: 'warn', event: 'authz_admin', outcome: 'unlocked',
      user: createPseudonyms(secrets.current).user('U10'), command: 'unlock' });
    await setWrong('login', 1);
    await setWrong('pay', 99);
    const enough = await unlock(deps, 'U10', 'login');
    assert.equal([enough.isDone, enough.lines],
      [true, ['unlocked; the user can request a code now']]);
    await request('U10', 'p');
    const limited = await unlock(deps, 'U10', null);
    assert.equal(limited.lines, ['was not locked; next code at 2026-01-05T10:45:00.000000Z,'
      + ' by the limits: user']);
  });

test('show waits for no lock', async () => {
  database.clock.set('2026-01-05 10:00:00');
  await request('U3', 'c');
  const locked = createGate();
  const shown = createGate();
  const holder = transaction(database.pool, async (tx) => {
    await tx.read(lockOtps(['U3']));
    tx.readOnly();
    locked.open();
    await shown.promise;
  });
  await locked.promise;
  assert.ok((await showUser('U3')).isDone);
  shown.open();
  await holder;
});

test('cancel cancels an OTP and reports every other state', async () => {
  database.clock.set('2026-01-05 11:00:00');
  const otpId = await request('U4', 'd');
  const parts = { pool: database.pool, secrets };
  assert.equal((await cancel(parts, otpId)).data, { outcome: 'canceled', otp_id: otpId });
  assert.equal((await cancel(parts, otpId)).data, { outcome: 'canceled', otp_id: otpId });
  assert.match((await showUser('U4')).lines.join('\n'), `code      ${otpId} canceled by console`);
  const used = await request('U5', 'e');
  const { code } = service.messages.findLast(({ userId }) => userId === 'U5')!;
  await post({ port: service.port, path: '/otp/verify',
    body: { user_id: 'U5', purpose: 'login', code } });
  const old = await request('U6', 'f');
  await request('U6', 'g');
  const ends = [[used, 'used'], [old, 'expired'], ['0f'.repeat(16), 'unknown']] as const;
  for (const [id, outcome] of ends) {
    const report = await cancel(parts, id);
    assert.equal(report.data, { outcome, otp_id: id });
    assert.not.ok(report.isDone);
  }
});

test.run();
