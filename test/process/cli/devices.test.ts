/** `otpd show`, `unlock` and `revoke` where the policy trusts devices. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkDevice, revoke, show, unlock } from '../../../src/app/cli/support.ts';
import { UsageError } from '../../../src/app/output.ts';
import { createPolicies, completePolicy, DEFAULT_DRAFT } from '../../../src/otp/policy/policy.ts';
import { createPseudonyms } from '../../../src/otp/crypto/secrets.ts';
import { closeClient, post } from '../../harness/client.ts';
import { createTestDatabase } from '../../harness/database.ts';
import type { TestDatabase } from '../../harness/database.ts';
import { newSecretsText, secretsOf, startTestService } from '../../harness/service.ts';
import type { TestService } from '../../harness/service.ts';
import { eventually } from '../../harness/waiting.ts';

const policies = createPolicies(completePolicy({ ...DEFAULT_DRAFT, deviceDays: 30 }));
const secrets = secretsOf(newSecretsText());
let database: TestDatabase;
let service: TestService;

test.before(async () => {
  database = await createTestDatabase();
  service = await startTestService({ pool: database.pool, secrets, policies });
});

test.after(async () => {
  closeClient();
  await service.close();
  database.close();
});

const deps = () => ({ pool: database.pool, policies, secrets });
let keys = 0;

async function request(user: string, token = ''): Promise<number> {
  keys += 1;
  const { status } = await post({ port: service.port, path: '/otp/request', key: `k${keys}`,
    headers: { 'Otp-Device': token }, body: { user_id: user, purpose: 'login' } });
  if (status === 201) {
    await eventually('the message is sent', async () =>
      (await database.query('SELECT 1 FROM outbox')).length === 0);
  }
  return status;
}

/** @returns the token of a success, or the status */
async function verify(user: string, token = '', addend = 0): Promise<string> {
  const code = service.messages.findLast(({ userId }) => userId === user)!.code;
  const sent = String((Number(code) + addend) % 1_000_000).padStart(6, '0');
  const { status, headers } = await post({ port: service.port, path: '/otp/verify',
    headers: { 'Otp-Device': token }, body: { user_id: user, purpose: 'login', code: sent } });
  return String(headers['otp-device'] ?? status);
}

async function trust(user: string, token = ''): Promise<string> {
  assert.is(await request(user, token), 201);
  return verify(user, token);
}

const deviceOf = (token: string): string =>
  Buffer.from(token.split('.')[1]!, 'base64url').toString('hex', 0, 8);

test('show lists the pairs of each device, and the devices', async () => {
  database.clock.set('2026-01-05 08:00:00');
  const token = await trust('U1');
  const device = deviceOf(token);
  database.clock.set('2026-01-05 08:01:00');
  await request('U1', token);
  await verify('U1', token, 1);
  const { lines, data } = await show(deps(), 'U1');
  const { account, purposes, devices } = data as Record<string, Record<string, unknown>[]>;
  assert.equal(account, { locked: false, wrong_in_a_row: 1, wrong_in_a_row_max: 100,
    untrusted_locked: false, untrusted_wrong_in_a_row_max: 70 });
  assert.equal(purposes!.map((pair) => [pair.device, pair.wrong_attempts]),
    [[null, 0], [device, 1]]);
  assert.equal(devices,
    [{ device, last_success_at: '2026-01-05T08:00:00.000000Z', revoked_at: null }]);
  const text = lines.join('\n');
  assert.match(text,
    '1 of 100 wrong in a row until an operator must unlock, 70 for untrusted clients');
  assert.match(text, `\npurpose login on device ${device}\n`);
  assert.match(text, `\ndevice ${device}, last success 2026-01-05T08:00:00.000000Z`);
});

test('revoke ends the trust in one device, and in no other', async () => {
  database.clock.set('2026-01-05 09:00:00');
  const [lost, kept] = [await trust('U2'), await trust('U2')];
  const { isDone, lines, data, note } = await revoke(deps(), 'U2', deviceOf(lost));
  assert.ok(isDone);
  assert.match(lines.join(), `device ${deviceOf(lost)} revoked`);
  assert.equal(data, { outcome: 'revoked', user_id: 'U2', device: deviceOf(lost),
    revoked_at: '2026-01-05T09:00:00.000000Z' });
  const { time, ...logged } = JSON.parse(note!);
  assert.ok(Date.parse(time) > 0);
  assert.equal(logged, { level: 'warn', event: 'authz_admin', outcome: 'revoked',
    user: createPseudonyms(secrets.current).user('U2'), device: deviceOf(lost),
    command: 'revoke' });
  assert.is(await request('U2'), 201, 'the third code of the untrusted clients');
  assert.is(await request('U2', lost), 429);
  assert.is(await request('U2', `${lost}, ${kept}`), 201);
});

test('revoke ends the trust in all devices, and the next success makes a new device', async () => {
  database.clock.set('2026-01-05 10:00:00.5');
  const old = await trust('U3');
  assert.equal((await revoke(deps(), 'U3', null)).data, { outcome: 'revoked', user_id: 'U3',
    device: null, revoked_at: '2026-01-05T10:00:00.500000Z' });
  database.clock.set('2026-01-05 10:00:00.6');
  const fresh = await trust('U3', old);
  assert.is.not(deviceOf(fresh), deviceOf(old), 'the revoked token is ignored');
  assert.is(await request('U3'), 201, 'the third code of the untrusted clients');
  assert.is(await request('U3', old), 429);
  assert.is(await request('U3', fresh), 201, 'within the second of the revocation');
  const { devices } = (await show(deps(), 'U3')).data as { devices: unknown };
  const at = '2026-01-05T10:00:00.500000Z';
  assert.equal(devices, [
    { device: deviceOf(old), last_success_at: at, revoked_at: at },
    { device: deviceOf(fresh), last_success_at: '2026-01-05T10:00:00.600000Z', revoked_at: null },
    { device: null, last_success_at: null, revoked_at: at },
  ]);
});

test('revoke deletes the revocations that no token outlives', async () => {
  const count = async (): Promise<number> =>
    (await database.query('SELECT 1 FROM device_revocations WHERE user_id = ?', ['U4'])).length;
  database.clock.set('2026-01-05 11:00:00');
  await revoke(deps(), 'U4', null);
  database.clock.set('2027-02-09 10:59:59.999999');
  await revoke(deps(), 'U5', null);
  assert.is(await count(), 1);
  database.clock.set('2027-02-09 11:00:00');
  await revoke(deps(), 'U5', null);
  assert.is(await count(), 0);
});

test('unlock lets in untrusted clients that are locked while devices are not', async () => {
  database.clock.set('2026-01-05 12:00:00');
  const token = await trust('U6');
  await request('U6');
  await database.query('UPDATE otps SET consecutive_wrong = 69 WHERE number = 2 AND user_id = ?',
    ['U6']);
  assert.is(await verify('U6', '', 1), '403');
  assert.is(await request('U6'), 403);
  assert.is(await request('U6', token), 201);
  // The lock does not end with the policy under which it began.
  for (const policy of [policies, createPolicies()]) {
    const { lines } = await show({ ...deps(), policies: policy }, 'U6');
    assert.match(lines.join('\n'),
      'account     locked except for trusted devices, 70 of 100 wrong');
  }
  assert.equal((await unlock(deps(), 'U6', null)).lines,
    ['unlocked; the user can request a code now']);
  assert.is(await request('U6'), 201);
});

test('the name of a device has 16 hexadecimal digits', () => {
  checkDevice('0123456789abcdef');
  for (const text of ['', '0123456789ABCDEF', '0123456789abcde', '0123456789abcdef0', 'all']) {
    assert.throws(() => checkDevice(text), (error: Error) => error instanceof UsageError);
  }
});

test.run();
