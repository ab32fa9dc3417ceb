/** Races over two processes on the optional limits (docs/policy.md), with exact counts. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient } from '../harness/client.ts';
import { racesOf } from './race.ts';
import { atOnce, fresh, freshAddress, startFleet, countByKind, wrongCode } from './load.ts';
import type { EndUser, Fleet } from './load.ts';

const race = racesOf(1 / 5);

// No number has six digits: the leak check would take it for a code.
const POLICY = JSON.stringify({
  default: {
    user_limit: 1000, address_limit: 99_999, wrong_attempts: 10,
    user_daily_limit: 7, destination_limit: 11, wrong_codes_limit: 9, wrong_codes_net_limit: 20,
    net_limit: 37, recipient_limit: 5,
  },
});

let fleet: Fleet;
let lastNet = 0;

/** The first three groups of an IPv6 address, which no other run uses. */
function freshNet48(): string {
  lastNet += 1;
  return `2001:db8:${lastNet.toString(16)}`;
}

/** The IPv6 /48s that have been used. */
let net = 0x1000;

test.before(async () => { fleet = await startFleet(2, 32, undefined, POLICY); });
test.after(async () => {
  closeClient();
  await fleet.stop();
});

race('60 simultaneous requests of one user for 60 purposes get 7 codes', async () => {
  const user = fresh('u');
  const replies = await atOnce(60, (index) =>
    fleet.request({ user, address: freshAddress(), purpose: `p${index}` }));
  assert.equal(countByKind(replies), { 201: 7, '429 rate_limit_exceeded': 53 });
});

race('60 simultaneous requests of 60 users at one domain get 11 codes', async () => {
  const domain = `${fresh('d')}.example`;
  const replies = await atOnce(60, (index) =>
    fleet.request({ user: `u${index}@${domain}`, address: freshAddress() }));
  assert.equal(countByKind(replies), { 201: 11, '429 rate_limit_exceeded': 49 });
});

race('each of 3 domains gets 11 codes in 90 simultaneous requests of 6 users', async () => {
  const domains = [fresh('d'), fresh('d'), fresh('d')].map((name) => `${name}.example`);
  const replies = await atOnce(90, (index) => fleet.request({
    user: `u${index % 2}@${domains[index % 3]}`, address: freshAddress(), purpose: `p${index}`,
  }));
  assert.equal(countByKind(replies), { 201: 33, '429 rate_limit_exceeded': 57 });
});

race('60 simultaneous requests for 30 spellings of one mailbox get 5 codes', async () => {
  const mailbox = fresh('m');
  const replies = await atOnce(60, (index) => fleet.request({
    user: `${mailbox}+${index % 30}@${mailbox}.example`, address: freshAddress(),
    purpose: `p${index}`,
  }));
  assert.equal(countByKind(replies), { 201: 5, '429 rate_limit_exceeded': 55 });
  const normal = { user: `${mailbox}@${mailbox}.example`, address: freshAddress() };
  assert.is((await fleet.request(normal)).status, 201);
});

race('90 simultaneous requests of 45 client IPs of one IPv6 /48 get 37 codes', async () => {
  net += 1;
  const replies = await atOnce(90, (index) => fleet.request({
    user: fresh('u'), address: `2a00:db8:${net.toString(16)}:${index % 45}::${index}`,
  }));
  assert.equal(countByKind(replies), { 201: 37, '429 rate_limit_exceeded': 53 });
});

race('each of 3 mailboxes gets 5 codes in 90 simultaneous requests from 2 IPv6 /48s', async () => {
  net += 2;
  const mailboxes = [fresh('m'), fresh('m'), fresh('m')];
  const replies = await atOnce(90, (index) => fleet.request({
    user: `${mailboxes[index % 3]}+${index}@${mailboxes[index % 3]}.example`,
    address: `2a00:db8:${(net + index % 2).toString(16)}:${index}::1`,
  }));
  assert.equal(countByKind(replies), { 201: 15, '429 rate_limit_exceeded': 75 });
});

/** New users, each from its own address, with the code that each has open. */
function openCodes(count: number): Promise<[EndUser, string][]> {
  return atOnce(count, async () => {
    const endUser = { user: fresh('u'), address: freshAddress() };
    const { body } = await fleet.request(endUser);
    return [endUser, (await fleet.messageOf(body.otp_id)).code];
  });
}

race('9 of 40 simultaneous guesses at 40 users from one address are compared', async () => {
  const endUsers = await openCodes(40);
  const address = freshAddress();
  const replies = await atOnce(40, (index) => {
    const [endUser, code] = endUsers[index]!;
    return fleet.verify({ ...endUser, address }, wrongCode(code));
  });
  assert.equal(countByKind(replies), { '401 invalid_code': 9, '429 rate_limit_exceeded': 31 });
  const right = await atOnce(40, (index) => fleet.verify(endUsers[index]![0], endUsers[index]![1]));
  assert.equal(countByKind(right), { 200: 40 });
});

race('20 of 60 simultaneous guesses from 30 addresses of one /48 are compared', async () => {
  const endUsers = await openCodes(60);
  const net = freshNet48();
  const replies = await atOnce(60, (index) => {
    const [endUser, code] = endUsers[index]!;
    return fleet.verify({ ...endUser, address: `${net}:${index % 30}::1` }, wrongCode(code));
  });
  assert.equal(countByKind(replies), { '401 invalid_code': 20, '429 rate_limit_exceeded': 40 });
});

race('right codes pass up to the last wrong code of their address, and none after it', async () => {
  const endUsers = await openCodes(40);
  const address = freshAddress();
  const verify = (index: number, isRight: boolean) => {
    const [endUser, code] = endUsers[index]!;
    return fleet.verify({ ...endUser, address }, isRight ? code : wrongCode(code));
  };
  const wrong = await atOnce(8, (index) => verify(index, false));
  assert.equal(countByKind(wrong), { '401 invalid_code': 8 });
  const right = await atOnce(10, (index) => verify(8 + index, true));
  assert.equal(countByKind(right), { 200: 10 });
  // Right and wrong codes at once: one more wrong code is compared, and right codes may pass it.
  const mixed = await atOnce(20, (index) => verify(18 + index, index % 2 === 0));
  const guesses = mixed.filter((_, index) => index % 2 === 1);
  assert.equal(countByKind(guesses), { '401 invalid_code': 1, '429 rate_limit_exceeded': 9 });
  const { 200: passed = 0, '429 rate_limit_exceeded': refused = 0, ...others }
    = countByKind(mixed.filter((_, index) => index % 2 === 0));
  assert.equal([passed + refused, others], [10, {}]);
  const late = await atOnce(2, (index) => verify(38 + index, true));
  assert.equal(countByKind(late), { '429 rate_limit_exceeded': 2 });
});

race('each of 20 other uses of 20 keys is refused, and each counts for the address', async () => {
  const endUsers = await openCodes(20);
  const keys = endUsers.map(() => fresh('v'));
  const won = await atOnce(20, (index) =>
    fleet.verify(endUsers[index]![0], endUsers[index]![1], keys[index]));
  assert.equal(countByKind(won), { 200: 20 });
  const address = freshAddress();
  const replies = await atOnce(20, (index) => {
    const [endUser, code] = endUsers[index]!;
    return fleet.verify({ ...endUser, address }, wrongCode(code), keys[index]);
  });
  assert.equal(countByKind(replies), { '422 idempotency_key_reused': 20 });
  const [row] = await fleet.database.query(
    'SELECT SUM(points) AS n FROM limit_hits WHERE subject = ?', [address]);
  assert.is(Number(row?.n), 20);
});

race('10 of 50 simultaneous guesses at one pair from 5 addresses are compared', async () => {
  const endUser = { user: fresh('u'), address: freshAddress() };
  const { body } = await fleet.request(endUser);
  const { code } = await fleet.messageOf(body.otp_id);
  const addresses = [0, 1, 2, 3, 4].map(freshAddress);
  const replies = await atOnce(50, (index) =>
    fleet.verify({ ...endUser, address: addresses[index % 5]! }, wrongCode(code, index)));
  assert.equal(countByKind(replies), { '401 invalid_code': 9, '429 too_many_attempts': 41 });
});

test.run();
