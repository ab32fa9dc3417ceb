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
    user_daily_limit: 7, destination_limit: 11, wrong_codes_limit: 9,
  },
});

let fleet: Fleet;

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

race('9 of 40 simultaneous guesses at 40 users from one address are compared', async () => {
  const endUsers = await atOnce(40, async (): Promise<[EndUser, string]> => {
    const endUser = { user: fresh('u'), address: freshAddress() };
    const { body } = await fleet.request(endUser);
    return [endUser, (await fleet.messageOf(body.otp_id)).code];
  });
  const address = freshAddress();
  const replies = await atOnce(40, (index) => {
    const [endUser, code] = endUsers[index]!;
    return fleet.verify({ ...endUser, address }, wrongCode(code));
  });
  assert.equal(countByKind(replies), { '401 invalid_code': 9, '429 rate_limit_exceeded': 31 });
  const right = await atOnce(40, (index) => fleet.verify(endUsers[index]![0], endUsers[index]![1]));
  assert.equal(countByKind(right), { 200: 40 });
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
