/**
 * Races over two processes between the devices of a user and strangers, with exact counts.
 * OTPD_TEST_RACES sets the number of runs.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseInstant } from '../../src/db/instant.ts';
import { revokeDevices } from '../../src/otp/support.ts';
import { closeClient } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { newSecretsText, secretsOf } from '../harness/service.ts';
import { racesOf } from './race.ts';
import {
  atOnce, freshAddress, newEndUser, startFleet, countByKind, wrongCode,
} from './load.ts';
import type { EndUser, Fleet } from './load.ts';

const race = racesOf(0.5);

const secretsText = newSecretsText();
const PURPOSES = ['login', 'pay', 'reset'] as const;

let fleet: Fleet;

test.before(async () => {
  fleet = await startFleet(2, 32, undefined, '{"default":{"device_days":30}}', secretsText);
});
test.after(async () => {
  closeClient();
  await fleet.stop();
});

async function codeOf(endUser: EndUser): Promise<string> {
  const { status, body } = await fleet.request(endUser);
  assert.is(status, 201);
  return (await fleet.messageOf(body.otp_id)).code;
}

/** A stranger who knows the name of a user, from another address each time. */
const strangerOf = ({ user }: EndUser): EndUser => ({ user, address: freshAddress() });

/** Lets a stranger verify a code. */
async function trust(stranger: EndUser): Promise<EndUser> {
  const { status, headers } = await fleet.verify(stranger, await codeOf(stranger));
  assert.is(status, 200);
  return { ...stranger, device: String(headers['otp-device']) };
}

/** A new user with trusted devices, and all points. */
async function newOwner(count = 1): Promise<EndUser[]> {
  const owner = newEndUser();
  const devices: EndUser[] = [];
  for (let index = 0; index < count; index += 1) devices.push(await trust(owner));
  await fleet.database.query('DELETE FROM otps WHERE user_id = ?', [owner.user]);
  return devices;
}

const isIssued = ({ status }: Reply): boolean => status === 201;

async function wrongOf({ user }: EndUser): Promise<number> {
  const [row] = await fleet.database.query(
    'SELECT SUM(consecutive_wrong) AS n FROM otps WHERE user_id = ?', [user]);
  return Number(row?.n);
}

/** The locks of accounts that are stored; each run starts without one. */
async function takeLocks(): Promise<number[]> {
  const rows = await fleet.database.query('SELECT consecutive_wrong AS n FROM wrong_counts');
  await fleet.database.query('DELETE FROM wrong_counts');
  return rows.map(({ n }) => Number(n));
}

race('72 simultaneous requests of strangers and three devices get 3 codes for the strangers and 6 '
  + 'for the devices', async () => {
  const devices = await newOwner(3);
  const replies = await atOnce(72, (index) => fleet.request(index % 2 === 0
    ? strangerOf(devices[0]!)
    : { ...devices[(index >> 1) % 3]!, address: freshAddress(), purpose: PURPOSES[index % 3]! }));
  const of = (isOwn: (index: number) => boolean): Reply[] =>
    replies.filter((_, index) => isOwn(index));
  assert.equal(countByKind(of((index) => index % 2 === 0)),
    { 201: 3, '429 rate_limit_exceeded': 33 });
  assert.equal(countByKind(of((index) => index % 2 === 1)),
    { 201: 6, '429 rate_limit_exceeded': 30 });
  for (const nth of [0, 1, 2]) {
    const own = of((index) => index % 2 === 1 && (index >> 1) % 3 === nth).filter(isIssued);
    assert.ok(own.length <= 3, `${own.length} codes for one device`);
  }
});

race('40 simultaneous requests of a device and 40 of strangers get 3 codes each', async () => {
  const [device] = await newOwner();
  const replies = await atOnce(80, (index) => fleet.request(index % 2 === 0
    ? strangerOf(device!) : { ...device!, address: freshAddress() }));
  for (const half of [0, 1]) {
    const own = replies.filter((_, index) => index % 2 === half);
    assert.equal(countByKind(own), { 201: 3, '429 rate_limit_exceeded': 37 });
    assert.equal(own.filter(isIssued).map(({ body }) => body.remaining_requests).sort(), [0, 1, 2]);
  }
});

race('among 60 simultaneous guesses of strangers, 3 of them compared, the code of a device wins',
  async () => {
    const [device] = await newOwner();
    const [code, other] = [await codeOf(device!), await codeOf(strangerOf(device!))];
    const replies = await atOnce(62, (index) => index === 20 || index === 40
      ? fleet.verify(device!, code) : fleet.verify(strangerOf(device!), wrongCode(other, index)));
    const ownReplies = [replies[20]!, replies[40]!];
    assert.equal(countByKind(ownReplies), { 200: 1, '410 code_used': 1 });
    assert.equal(countByKind(replies.filter((reply) => !ownReplies.includes(reply))),
      { '401 invalid_code': 2, '429 too_many_attempts': 58 });
    assert.is(await wrongOf(device!), 3);
  });

/** Codes of a client for three purposes, and wrong attempts in the first. */
async function withCodes(client: EndUser, wrong: number) {
  const codes: string[] = [];
  for (const purpose of PURPOSES) codes.push(await codeOf({ ...client, purpose }));
  await fleet.database.query(`UPDATE otps SET consecutive_wrong = ?
    WHERE user_id = ? AND purpose = ? AND (device = '') = ?`,
  [wrong, client.user, PURPOSES[0], client.device === undefined ? 1 : 0]);
  return (index: number): Promise<Reply> => fleet.verify(
    { ...client, address: freshAddress(), purpose: PURPOSES[index % 3]! },
    wrongCode(codes[index % 3]!, index));
}

race('after 68 wrong codes 2 of 40 simultaneous ones of strangers are compared, the account is '
  + 'locked for them once, and the code of a device wins', async () => {
  const [device] = await newOwner();
  const guess = await withCodes(strangerOf(device!), 68);
  const code = await codeOf(device!);
  const replies = await atOnce(41, (index) =>
    (index === 20 ? fleet.verify(device!, code) : guess(index)));
  assert.equal(countByKind(replies),
    { 200: 1, '401 invalid_code': 1, '403 account_locked': 39 });
  assert.equal([await wrongOf(device!), await takeLocks()], [70, [65_534]]);
});

race('after 97 wrong codes 3 of 30 simultaneous ones of a device are compared among those of '
  + 'strangers, and the account is locked once', async () => {
  const [device] = await newOwner();
  const ofStrangers = await withCodes(strangerOf(device!), 70);
  const ofDevice = await withCodes(device!, 27);
  const replies = await atOnce(60, (index) =>
    (index % 2 === 0 ? ofStrangers(index) : ofDevice(index)));
  const half = (odd: number): Reply[] => replies.filter((_, index) => index % 2 === odd);
  assert.equal(countByKind(half(0)), { '403 account_locked': 30 });
  assert.equal(countByKind(half(1)), { '401 invalid_code': 2, '403 account_locked': 28 });
  assert.equal([await wrongOf(device!), await takeLocks()], [100, [65_535]]);
});

race('wrong codes of strangers and a device race for the 70th, and the sum tells who was compared',
  async () => {
    const [device] = await newOwner();
    const ofStrangers = await withCodes(strangerOf(device!), 67);
    const ofDevice = await withCodes(device!, 0);
    const replies = await atOnce(24, (index) =>
      (index % 4 !== 3 ? ofStrangers(index) : ofDevice(0)));
    const own = replies.filter((_, index) => index % 4 === 3);
    assert.equal(countByKind(own), { '401 invalid_code': 2, '429 too_many_attempts': 4 });
    const others = countByKind(replies.filter((reply) => !own.includes(reply)));
    // The attempt that reaches 70 is compared, too: then the account is locked for strangers.
    const locks = await takeLocks();
    const compared = (others['401 invalid_code'] ?? 0) + locks.length;
    assert.is(compared + (others['403 account_locked'] ?? 0) - locks.length, 18,
      JSON.stringify(others));
    assert.is(await wrongOf(device!), 67 + 3 + compared);
    assert.ok(compared <= 3, JSON.stringify(others));
    assert.ok(locks.every((lock) => lock === 65_534) && locks.length <= 1, locks.join());
    assert.is((await fleet.request(strangerOf(device!))).status, 403);
  });

const revokeAll = (user: string) =>
  revokeDevices({ pool: fleet.database.pool, secrets: secretsOf(secretsText) }, user, null);

async function isTrusted(user: string, token: string): Promise<boolean> {
  await fleet.database.query('DELETE FROM otps WHERE user_id = ?', [user]);
  const { headers } = await fleet.request({ user, address: freshAddress(), device: token });
  return String(headers['ratelimit-policy']).includes('"device"');
}

race('no token is valid after a revocation that its renewal was faster than', async () => {
  const owner = await trust(newEndUser());
  const { user, device: old = '' } = owner;
  const code = await codeOf(owner);
  const [reply] = await Promise.all([fleet.verify(owner, code), revokeAll(user)]);
  // After the revocation the client is untrusted, and the code of the untrusted clients is used.
  assert.ok(reply.status === 200 || reply.body.error === 'code_used', reply.text);
  const renewed = reply.headers['otp-device'];
  if (reply.status === 200) assert.not(await isTrusted(user, String(renewed)));
  else assert.is(renewed, undefined);
  assert.not(await isTrusted(user, old));
});

race('of a success and a revocation at once the later one decides about the token', async () => {
  const owner = newEndUser();
  const code = await codeOf(owner);
  const [reply, revokedAt] = await Promise.all([
    fleet.verify(owner, code), revokeAll(owner.user)]);
  assert.is(reply.status, 200);
  const [row] = await fleet.database.query(
    'SELECT redeemed_at AS time FROM otps WHERE user_id = ?', [owner.user]);
  const isLater = parseInstant(String(row?.time)) >= revokedAt;
  assert.is(await isTrusted(owner.user, String(reply.headers['otp-device'])), isLater);
});

test.run();
