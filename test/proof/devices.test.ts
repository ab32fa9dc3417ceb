/**
 * Trusted devices and strangers who know the name of their user: what is stored of either outlasts
 * its OTPs, comes back after a failed delivery and ends with a revocation, each on its own.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatInstant, parseInstant } from '../../src/db/instant.ts';
import { parsePolicies } from '../../src/otp/policy/policy-file.ts';
import { createPolicies, LivePolicies } from '../../src/otp/policy/policy.ts';
import type { Policies } from '../../src/otp/policy/policy.ts';
import { revokeDevices, unlockUser } from '../../src/otp/support.ts';
import { readUserReport } from '../../src/otp/user-report.ts';
import { closeClient, post } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { parseDeviceToken } from '../harness/device-token.ts';
import { newSecretsText, secretsOf, startTestService } from '../harness/service.ts';
import type { ChannelState, TestService } from '../harness/service.ts';
import { eventually } from '../harness/waiting.ts';
import { atOnce, countByKind, fresh, freshAddress, wrongCode } from './load.ts';

const START = parseInstant('2026-01-05 08:00:00.000000');
const SECOND = 1_000_000;
const DAY = 86_400 * SECOND;
/** 87,000 s, after which the row of an OTP expires. */
const OTP_LIFE = DAY + 600 * SECOND;
const UNTRUSTED_LOCK = 65_534;
const ACCOUNT_LOCK = 65_535;
const BATCH = 50;

const secrets = secretsOf(newSecretsText());
const policies = new LivePolicies(createPolicies());
const state: ChannelState = { sendResult: 'accepted' };
let database: TestDatabase;
let service: TestService;
let now = START;

const deps = () => ({ pool: database.pool, policies, secrets });

function setClock(instant: number): void {
  now = instant;
  database.clock.set(formatInstant(instant));
}

function follow(file: object): void {
  const parsed = parsePolicies(JSON.stringify(file));
  if ('errors' in parsed) throw new Error(parsed.errors.join());
  policies.replace(parsed.policies as Policies);
}

const TRUSTING = { default: { device_days: 30 } };

test.before.each(async () => {
  database = await createTestDatabase();
  service = await startTestService({ pool: database.pool, secrets, policies, state });
  state.sendResult = 'accepted';
  follow(TRUSTING);
  setClock(START);
});
test.after.each(async () => {
  await service.close();
  database.close();
});
test.after(closeClient);

/** A stranger without a token. */
type Client = Readonly<{ user: string; token?: string; purpose?: string }>;

function call(path: string, { user, token = '', purpose = 'login' }: Client, more: object = {}) {
  return post({ port: service.port, path, key: fresh('k'), address: freshAddress(),
    headers: { 'Otp-Device': token }, body: { user_id: user, purpose, ...more } });
}

const request = (client: Client): Promise<Reply> => call('/otp/request', client);
const verify = (client: Client, code: string): Promise<Reply> =>
  call('/otp/verify', client, { code });

async function codeOf(client: Client): Promise<string> {
  const { status, body } = await request(client);
  assert.is(status, 201);
  const find = () => service.messages.find(({ otpId }) => otpId === body.otp_id);
  await eventually('the message is sent', () => find() !== undefined);
  return find()!.code;
}

/** Lets a client verify a code. */
async function trust(client: Client): Promise<Client> {
  const { status, headers } = await verify(client, await codeOf(client));
  assert.is(status, 200);
  return { ...client, token: String(headers['otp-device']) };
}

async function isTrusted(client: Client): Promise<boolean> {
  const { headers } = await request(client);
  return String(headers['ratelimit-policy']).includes('"device"');
}

async function guess(client: Client, count: number): Promise<Reply[]> {
  const code = await codeOf(client);
  const replies: Reply[] = [];
  for (let index = 0; index < count; index += 1) {
    replies.push(await verify(client, wrongCode(code, index)));
  }
  return replies;
}

const deviceOf = ({ token = '' }: Client): string => parseDeviceToken(token).device;

async function setWrong(user: string, device: string, count: number): Promise<void> {
  await database.query(`UPDATE otps SET consecutive_wrong = ?
    WHERE user_id = ? AND HEX(device) = UPPER(?) ORDER BY number DESC LIMIT 1`,
  [count, user, device]);
}

async function storedCounts(): Promise<number[]> {
  const rows = await database.query('SELECT consecutive_wrong AS n FROM wrong_counts ORDER BY 1');
  return rows.map(({ n }) => Number(n));
}

async function rowsOf(user: string): Promise<number> {
  const rows = await database.query('SELECT 1 FROM otps WHERE user_id = ?', [user]);
  return rows.length;
}

/** Issues codes for new users until the sweep has been through every table. */
async function sweep(): Promise<void> {
  const [row] = await database.query('SELECT COUNT(*) AS n FROM otps');
  for (let sent = 0; sent < 1200 + Number(row?.n); sent += BATCH) {
    const replies = await atOnce(BATCH, () => request({ user: fresh('s') }));
    assert.equal(countByKind(replies), { 201: BATCH });
  }
}

const accountOf = async (user: string) => (await readUserReport(deps(), user))?.account;

test('a second revocation within a second ends the tokens that followed the first', async () => {
  const stranger = { user: fresh('u') };
  setClock(START + 100_000);
  const first = await trust(stranger);
  await revokeDevices(deps(), stranger.user, null);
  setClock(START + 200_000);
  const second = await trust(stranger);
  assert.ok(await isTrusted(second));
  await revokeDevices(deps(), stranger.user, null);
  const third = await trust(stranger);
  for (const passed of [200_000, SECOND, DAY]) {
    setClock(START + passed);
    const trusted = [await isTrusted(first), await isTrusted(second), await isTrusted(third)];
    assert.equal(trusted, [false, false, true], `${passed / SECOND} s later`);
  }
});

test('a device that is revoked by name stays so, though its token is from the future', async () => {
  const stranger = { user: fresh('u') };
  setClock(START + DAY);
  const ahead = await trust(stranger);
  setClock(START);
  await database.query('DELETE FROM otps');
  await revokeDevices(deps(), stranger.user, deviceOf(ahead));
  for (const passed of [0, SECOND, DAY, 2 * DAY]) {
    setClock(START + passed);
    await database.query('DELETE FROM otps');
    assert.not(await isTrusted(ahead), `${passed / SECOND} s later`);
  }
});

test('a revocation that is ahead of the clock gives way to the next one', async () => {
  const stranger = { user: fresh('u') };
  const before = await trust(stranger);
  setClock(START + DAY);
  await revokeDevices(deps(), stranger.user, null);
  setClock(START + 60 * SECOND);
  await revokeDevices(deps(), stranger.user, null);
  assert.not(await isTrusted(before));
  const device = await trust(stranger);
  setClock(START + 2 * DAY);
  assert.ok(await isTrusted(device));
  assert.not(await isTrusted(before));
});

test('the sweep keeps the count of each device, which comes back to that device', async () => {
  const stranger = { user: fresh('u') };
  const [phone, laptop] = [await trust(stranger), await trust(stranger)];
  setClock(now + 900 * SECOND);
  await guess(stranger, 3);
  await guess(phone, 2);
  await guess(laptop, 1);
  assert.is((await accountOf(stranger.user))?.wrong, 6);
  setClock(now + OTP_LIFE);
  assert.is((await accountOf(stranger.user))?.wrong, 6);
  await sweep();
  assert.equal([await rowsOf(stranger.user), await storedCounts()], [0, [1, 2, 3]]);
  assert.is((await accountOf(stranger.user))?.wrong, 6);
  await guess(phone, 1);
  assert.equal(await storedCounts(), [1, 3]);
  assert.is((await accountOf(stranger.user))?.wrong, 7);
  assert.is((await verify(laptop, await codeOf(laptop))).status, 200);
  assert.equal(await storedCounts(), [3]);
  assert.is((await accountOf(stranger.user))?.wrong, 6, 'its success ends its own count');
  await trust(stranger);
  assert.equal(await storedCounts(), []);
  assert.is((await accountOf(stranger.user))?.wrong, 3);
});

test('an unlocked purpose resets also the counts of devices whose OTPs are gone', async () => {
  const stranger = { user: fresh('u') };
  const [phone, laptop] = [await trust(stranger), await trust(stranger)];
  setClock(now + 900 * SECOND);
  await guess(stranger, 3);
  await guess(phone, 2);
  await guess({ ...laptop, purpose: 'pay' }, 1);
  setClock(now + OTP_LIFE);
  await sweep();
  assert.equal([await rowsOf(stranger.user), await storedCounts()], [0, [1, 2, 3]]);
  assert.is((await unlockUser(deps(), stranger.user, 'login')).outcome, 'not_locked');
  assert.equal(await storedCounts(), [1], 'the count of the other purpose is left');
  assert.is((await unlockUser(deps(), stranger.user, 'login')).outcome, 'unknown');
  assert.is((await unlockUser(deps(), stranger.user, 'pay')).outcome, 'not_locked');
  assert.equal(await storedCounts(), []);
});

test('the lock of strangers becomes that of everybody with the 100th wrong code of a device',
  async () => {
    const stranger = { user: fresh('u') };
    const device = await trust(stranger);
    await guess(stranger, 0);
    await setWrong(stranger.user, '', 69);
    setClock(now + 900 * SECOND);
    assert.equal(countByKind(await guess(stranger, 2)), { '403 account_locked': 2 });
    assert.equal(await storedCounts(), [UNTRUSTED_LOCK]);
    await request(device);
    await setWrong(stranger.user, deviceOf(device), 28);
    const replies = await guess(device, 3);
    assert.equal(replies.map(({ body }) => body.attempts_remaining ?? body.error),
      [1, 'account_locked', 'account_locked']);
    assert.equal(await storedCounts(), [ACCOUNT_LOCK]);
    assert.equal(countByKind([await request(device), await request(stranger),
      await verify(device, '000000')]), { '403 account_locked': 3 });
    assert.equal(await accountOf(stranger.user), { wrong: 100, wrongMax: 100, isLocked: true,
      untrustedMax: 70, isUntrustedLocked: true });
    setClock(now + 2 * 30 * DAY);
    await sweep();
    await sweep();
    assert.equal([await rowsOf(stranger.user), await storedCounts()], [0, [ACCOUNT_LOCK]]);
    // The device has expired, and its user is locked even without a count.
    assert.is((await request(stranger)).status, 403);
    assert.is((await unlockUser(deps(), stranger.user, null)).outcome, 'unlocked');
    assert.equal(await storedCounts(), []);
    assert.is((await request(stranger)).status, 201);
  });

test('an unlocked purpose leaves the lock of strangers while 70 wrong codes are left', async () => {
  const stranger = { user: fresh('u') };
  const pay = { ...stranger, purpose: 'pay' };
  const device = await trust(stranger);
  await codeOf(pay);
  await setWrong(stranger.user, '', 75);
  const code = await codeOf(device);
  await setWrong(stranger.user, deviceOf(device), 24);
  assert.is((await verify(device, wrongCode(code))).status, 403);
  assert.equal(await storedCounts(), [ACCOUNT_LOCK]);
  await unlockUser(deps(), stranger.user, 'login');
  assert.equal(await storedCounts(), [UNTRUSTED_LOCK]);
  assert.equal([(await request(stranger)).status, (await request(device)).status], [403, 201]);
  assert.is((await unlockUser(deps(), stranger.user, 'pay')).outcome, 'unlocked');
  assert.equal(await storedCounts(), []);
  assert.is((await request(stranger)).status, 201);
});

test('an unlock ends the locks of the pairs of all devices', async () => {
  const stranger = { user: fresh('u') };
  const [phone, laptop] = [await trust(stranger), await trust(stranger)];
  const clients = [stranger, phone, { ...laptop, purpose: 'pay' }];
  for (const client of clients) assert.is((await guess(client, 3)).at(-1)?.status, 429);
  await unlockUser(deps(), stranger.user, 'login');
  setClock(now + SECOND);
  const locked = async () => Promise.all(clients.map(async (client) =>
    (await verify(client, '000000')).status));
  assert.equal(await locked(), [410, 410, 429]);
  await unlockUser(deps(), stranger.user, null);
  assert.equal(await locked(), [410, 410, 410]);
  assert.is((await accountOf(stranger.user))?.wrong, 0);
});

test('a client gets its points of failed deliveries back, whatever others got', async () => {
  const stranger = { user: fresh('u') };
  const device = await trust(stranger);
  setClock(now + 900 * SECOND);
  for (let n = 0; n < 2; n += 1) await codeOf(device);
  state.sendResult = 'refused';
  // Of the strangers 3 points at most are given back.
  for (const [client, refunded] of [[stranger, 1], [stranger, 2], [stranger, 3], [stranger, 3],
    [device, 4]] as const) {
    const { body } = await request(client);
    await eventually('the delivery has failed', async () => (await database.query(
      "SELECT 1 FROM otps WHERE otp_id = UNHEX(?) AND close_reason = 'failed'",
      [String(body.otp_id)])).length === 1);
    const rows = await database.query(
      'SELECT 1 FROM otps WHERE user_id = ? AND is_refunded = 1', [stranger.user]);
    assert.is(rows.length, refunded);
  }
  state.sendResult = 'accepted';
  assert.is((await request(device)).body.remaining_requests, 0);
  assert.is((await request(device)).status, 429);
  assert.is((await request(stranger)).body.remaining_requests, 1);
});

test('no answer to a stranger depends on whether a user has devices', async () => {
  const [plain, owner] = [{ user: fresh('u') }, { user: fresh('u') }];
  const device = await trust(owner);
  setClock(now + 900 * SECOND);
  await codeOf(device);
  await guess(device, 1);
  const answersTo = async ({ user }: Client): Promise<unknown[]> => {
    const replies = [await verify({ user, purpose: 'pay' }, '000000'), await request({ user }),
      ...await guess({ user }, 3), await request({ user }), await verify({ user }, '000000'),
      await request({ user, token: device.token!.replace(/.$/, '~') }),
      await request({ user, purpose: 'pay' }), await request({ user, purpose: 'pay' })];
    return replies.map(({ status, body: { otp_id: _, ...body }, headers }) =>
      [status, body, headers.ratelimit, headers['ratelimit-policy'], headers['otp-device']]);
  };
  assert.equal(await answersTo(owner), await answersTo(plain));
});

test('refusals and replays name the limits of the client that asks', async () => {
  const stranger = { user: fresh('u') };
  const device = await trust(stranger);
  const namesOf = ({ headers }: Reply): string[] =>
    [...String(headers.ratelimit).matchAll(/"(\w+)";r=(\d+)/g)].map(([, name, left]) =>
      `${name} ${left}`);
  setClock(now + 900 * SECOND);
  const key = fresh('k');
  const ask = (token = '') => post({ port: service.port, path: '/otp/request', key,
    headers: { 'Otp-Device': token }, body: { user_id: stranger.user, purpose: 'login' } });
  assert.equal(namesOf(await ask(device.token)), ['device 2', 'devices 5', 'ip 7']);
  assert.equal(namesOf(await ask(device.token)), ['device 2', 'devices 5', 'ip 7']);
  const replay = await ask();
  assert.is(replay.headers['idempotent-replayed'], 'true', 'the device is no part of the key');
  assert.equal(namesOf(replay), ['user 3', 'ip 7']);
  for (let n = 0; n < 2; n += 1) await request(device);
  for (const refusal of [await request(device), await request(device)]) {
    assert.is(refusal.status, 429);
    assert.equal(namesOf(refusal).slice(0, 2), ['device 0', 'devices 3']);
  }
  await guess(stranger, 3);
  for (let n = 0; n < 2; n += 1) {
    const locked = await request(stranger);
    assert.equal([locked.body.error, namesOf(locked)[0]], ['too_many_attempts', 'user 2']);
    assert.is((await request(device)).body.error, 'rate_limit_exceeded', 'its pair is not locked');
  }
});

test('a purpose without device_days knows no device, and shares the account and its reserve',
  async () => {
    follow({ default: {}, purposes: { login: { device_days: 30 } } });
    const stranger = { user: fresh('u') };
    const device = await trust(stranger);
    const pay = { ...device, purpose: 'pay' };
    assert.is((await verify(pay, await codeOf(pay))).headers['otp-device'], undefined);
    setClock(now + 900 * SECOND);
    await codeOf(pay);
    await setWrong(stranger.user, '', 69);
    assert.equal(countByKind(await guess(pay, 1)), { '403 account_locked': 1 });
    assert.equal([(await request(pay)).status, (await request(device)).status], [403, 201]);
  });

test('devices are forgotten while device_days is removed, and are known when it is set again',
  async () => {
    const stranger = { user: fresh('u') };
    const device = await trust(stranger);
    const code = await codeOf(device);
    follow({ default: {} });
    assert.is((await verify(device, code)).body.error, 'code_used', 'that of the strangers');
    assert.is(await isTrusted(device), false);
    assert.equal((await readUserReport(deps(), stranger.user))?.devices, []);
    follow(TRUSTING);
    const { status, headers } = await verify(device, code);
    assert.is(status, 200);
    assert.is(deviceOf({ ...device, token: String(headers['otp-device']) }), deviceOf(device));
    follow({ default: { device_days: 1 } });
    setClock(now + DAY);
    assert.not(await isTrusted(device), 'its token is a day old');
  });

test('the lock of strangers stays when device_days is removed, until an operator unlocks',
  async () => {
    const stranger = { user: fresh('u') };
    const device = await trust(stranger);
    setClock(now + 900 * SECOND);
    await codeOf(stranger);
    await setWrong(stranger.user, '', 69);
    await guess(stranger, 1);
    follow({ default: {} });
    assert.equal(countByKind([await request(stranger), await request(device)]),
      { '403 account_locked': 2 });
    assert.is((await unlockUser(deps(), stranger.user, null)).outcome, 'unlocked');
    assert.is((await request(device)).status, 201);
  });

test.run();
