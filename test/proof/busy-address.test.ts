/** A client IP shared by many users: its limit is exact beyond the slots, at a bounded cost. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addSeconds, formatInstant, parseInstant } from '../../src/db/instant.ts';
import { SLOTS_MAX } from '../../src/db/tables/ip-limits.ts';
import type { Delivery } from '../../src/otp/delivery/delivery.ts';
import type { RequestOutcome } from '../../src/otp/outcomes.ts';
import { createPolicies, DEFAULT_POLICY } from '../../src/otp/policy/policy.ts';
import { createOtpService } from '../../src/otp/service.ts';
import type { OtpService } from '../../src/otp/service.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { channelOf, createTestDelivery } from '../harness/delivery.ts';
import { newSecretsText, newSweeper, secretsOf } from '../harness/service.ts';
import { fresh, freshAddress } from './load.ts';

const START = parseInstant('2026-01-05 08:00:00.000000');
const LIMIT = 100;
const SMALL_LIMIT = 60;

let database: TestDatabase;
/** Two services in place of two processes: neither knows the requests of the other. */
let services: OtpService[];
let delivery: Delivery;

test.before(async () => {
  database = await createTestDatabase();
  const policy = { ...DEFAULT_POLICY, addressLimit: LIMIT };
  const policies = createPolicies(policy, new Map([
    ['small', { ...policy, addressLimit: SMALL_LIMIT }],
  ]));
  const secrets = secretsOf(newSecretsText());
  const deps = { pool: database.pool, policies, secrets };
  const channels = [channelOf(() => ({ kind: 'accepted' }))];
  delivery = createTestDelivery({ ...deps, channels });
  services = [0, 1].map(() => createOtpService({ ...deps, delivery, sweeper: newSweeper(deps) }));
});
test.after(async () => {
  await delivery.stop(2000);
  database.close();
});

let turn = 0;

function request(address: string, purpose = 'login'): Promise<RequestOutcome> {
  turn += 1;
  const names = {
    userId: fresh('u'), purpose, clientIp: address, clientNet48: null,
    key: fresh('k'), apiClient: null,
  };
  return services[turn % services.length]!.request({ ...names, acceptLanguage: '' }, () => true);
}

function setClock(seconds: number): void {
  database.clock.set(formatInstant(addSeconds(START, seconds)));
}

/**
 * The state of the client IP in a response: outcome, points left, seconds to a reset, Retry-After.
 */
function viewOf(outcome: RequestOutcome): unknown[] {
  const { remaining, resetSeconds } = outcome.limits.find(({ limit }) => limit === 'address')!;
  return [outcome.kind, remaining, resetSeconds,
    outcome.kind === 'limited' ? outcome.retryAfterSeconds : null];
}

test('each of 100 points of a client IP is counted, and is free again on its second', async () => {
  const address = freshAddress();
  for (let second = 0; second < LIMIT; second += 1) {
    setClock(second);
    assert.equal(viewOf(await request(address)),
      ['issued', LIMIT - 1 - second, 900 - second, null]);
  }
  setClock(LIMIT);
  assert.equal(viewOf(await request(address)), ['limited', 0, 800, 800]);
  assert.equal(viewOf(await request(address)), ['limited', 0, 800, 800], 'screened without a lock');
  // The smaller limit allows a request once 41 points are free.
  assert.equal(viewOf(await request(address, 'small')), ['limited', 0, 800, 840]);
  setClock(899.999999);
  assert.equal(viewOf(await request(address)), ['limited', 0, 1, 1]);
  for (let second = 900; second < 900 + LIMIT; second += 1) {
    setClock(second);
    assert.equal(viewOf(await request(address)).slice(0, 2), ['issued', 0]);
    assert.equal(viewOf(await request(address)).slice(0, 2), ['limited', 0]);
  }
  const [row] = await database.query(
    'SELECT COUNT(*) AS n FROM ip_rate_limits WHERE address = ?', [address]);
  assert.is(row?.n, SLOTS_MAX);
});

test('simultaneous requests through two services get exactly the limit', async () => {
  const address = freshAddress();
  for (let round = 0; round < 3; round += 1) {
    setClock(10_000 + round);
    await Promise.all(Array.from({ length: 25 }, () => request(address)));
  }
  setClock(10_010);
  const outcomes = await Promise.all(Array.from({ length: 60 }, () => request(address)));
  const issued = outcomes.filter(({ kind }) => kind === 'issued');
  assert.is(issued.length, LIMIT - 75);
  assert.ok(outcomes.every(({ kind }) => kind === 'issued' || kind === 'limited'));
});

test('simultaneous requests beyond the slots get exactly the limit', async () => {
  const address = freshAddress();
  for (let second = 0; second < 90; second += 1) {
    setClock(20_000 + second);
    await request(address);
  }
  setClock(20_100);
  const outcomes = await Promise.all(Array.from({ length: 40 }, () => request(address)));
  assert.is(outcomes.filter(({ kind }) => kind === 'issued').length, LIMIT - 90);
});

test('a sweep removes no point that counts, and all others in the end', async () => {
  const address = freshAddress();
  for (let second = 0; second < 80; second += 1) {
    setClock(30_000 + second * 10);
    await request(address);
  }
  // The slots have expired, the overflow has not, and other requests have swept meanwhile.
  setClock(30_000 + 900 + SLOTS_MAX * 10);
  for (let round = 0; round < 40; round += 1) {
    await Promise.all(Array.from({ length: 20 }, () => request(freshAddress())));
  }
  const live = 80 - SLOTS_MAX - 1;
  assert.equal(viewOf(await request(address)).slice(0, 2), ['issued', LIMIT - live - 1]);
  const regulars = Array.from({ length: 20 }, freshAddress);
  for (let round = 0; round < 200; round += 1) {
    setClock(40_000 + round * 100);
    await Promise.all(regulars.map((regular) => request(regular)));
  }
  for (const table of ['ip_rate_limits', 'ip_rate_overflow']) {
    const [row] = await database.query(
      `SELECT COUNT(*) AS n FROM ${table} WHERE address = ?`, [address]);
    assert.is(row?.n, 0, table);
  }
});

test.run();
