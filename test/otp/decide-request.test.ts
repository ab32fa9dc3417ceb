import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decideRequest } from '../../src/otp/decide-request.ts';
import type { RequestInput, RequestState } from '../../src/otp/decide-request.ts';
import { DEFAULT_POLICY } from '../../src/otp/policy.ts';
import { answerWith, at, NOW, pairWith, usedAgo } from './rows.ts';

const INPUT: RequestInput = {
  userId: 'U1',
  purpose: 'login',
  keyDigest: Buffer.alloc(32, 2),
  fingerprint: Buffer.alloc(32, 3),
  otpId: Buffer.alloc(16, 0xab),
  keyId: 'k2',
  digest: Buffer.alloc(32, 0xcd),
};

const EMPTY: RequestState = { now: NOW, answer: null, pair: null, userSlots: [], addressSlots: [] };

const LOCKED = pairWith({
  digest: null, wrongAttempts: 3, lastWrongAt: NOW, lockedUntil: at(600), consecutiveWrong: 3,
});
const FULL_USER = usedAgo(720, 540, 410);
const FULL_ADDRESS = usedAgo(10, 20, 30, 40, 50, 60, 70, 80);

function decide(changes: Partial<RequestState>, input = INPUT, policy = DEFAULT_POLICY) {
  return decideRequest({ ...EMPTY, ...changes }, input, policy);
}

test('issues the first code', () => {
  const { outcome, writes } = decide({});
  const user = { quota: 3, windowSeconds: 900, remaining: 2, resetSeconds: 900 };
  const address = { quota: 8, windowSeconds: 900, remaining: 7, resetSeconds: 900 };
  assert.equal(outcome, {
    kind: 'issued',
    otpId: 'ab'.repeat(16),
    ttlSeconds: 300,
    remainingRequests: 2,
    replayed: false,
    limits: { user, address },
  });
  assert.equal(writes?.pair, pairWith({
    otpId: INPUT.otpId, keyId: 'k2', digest: INPUT.digest, expiresAt: at(300),
  }));
  assert.equal(writes?.userSlot, { slot: 0, usedAt: NOW, points: 1 });
  assert.equal(writes?.addressSlot, { slot: 0, usedAt: NOW, points: 1 });
  assert.equal(writes?.answer, answerWith({
    otpId: INPUT.otpId, remainingRequests: 2, expiresAt: at(86_400),
  }));
});

/** [what, state, kind, seconds] in the order of the contract's table: the first that applies. */
const REFUSALS: [string, Partial<RequestState>, string, number | undefined][] = [
  ['a replay wins over a lock and over both limits',
    { answer: answerWith(), pair: LOCKED, userSlots: FULL_USER, addressSlots: FULL_ADDRESS },
    'issued', undefined],
  ['another use of the key, over a lock',
    { answer: answerWith({ fingerprint: Buffer.alloc(32, 4) }), pair: LOCKED },
    'key_reused', undefined],
  ['the lock wins over the limits', { pair: LOCKED, userSlots: FULL_USER }, 'locked', 600],
  ['a microsecond before the lock ends',
    { pair: { ...LOCKED, lockedUntil: NOW + 1 } }, 'locked', 1],
  ['the user limit', { userSlots: FULL_USER }, 'limited', 180],
  ['the address limit', { addressSlots: FULL_ADDRESS }, 'limited', 820],
  ['the maximum of both', { userSlots: FULL_USER, addressSlots: FULL_ADDRESS }, 'limited', 820],
  ['the other way round',
    { userSlots: usedAgo(1, 2, 3), addressSlots: FULL_ADDRESS }, 'limited', 897],
  ['an operator must unlock',
    { pair: pairWith({ consecutiveWrong: 100, lockedUntil: at(-5000) }) }, 'locked', 600],
];

for (const [what, state, kind, seconds] of REFUSALS) {
  test(`writes nothing: ${what}`, () => {
    const { outcome, writes } = decide(state);
    assert.is(outcome.kind, kind);
    assert.is('retryAfterSeconds' in outcome ? outcome.retryAfterSeconds : undefined, seconds);
    assert.is(writes, null);
  });
}

test('replays the stored members, not those of today', () => {
  const { outcome } = decide({ answer: answerWith({ ttlSeconds: 77, remainingRequests: 0 }) });
  assert.is(outcome.kind === 'issued' && outcome.ttlSeconds, 77);
  assert.is(outcome.kind === 'issued' && outcome.remainingRequests, 0);
  assert.is(outcome.kind === 'issued' && outcome.replayed, true);
});

test('a key is forgotten exactly at its end', () => {
  assert.is(decide({ answer: answerWith({ expiresAt: NOW + 1 }) }).writes, null);
  assert.ok(decide({ answer: answerWith({ expiresAt: NOW }) }).writes !== null);
});

test('a lock that is over lets a request through and starts the count over', () => {
  const { writes } = decide({ pair: { ...LOCKED, lockedUntil: NOW } });
  assert.is(writes?.pair.wrongAttempts, 0);
  assert.is(writes?.pair.lockedUntil, null);
  assert.is(writes?.pair.consecutiveWrong, 3);
});

test('a new code does not reset the count of wrong attempts', () => {
  const pair = pairWith({ wrongAttempts: 2, lastWrongAt: at(-599.999999), consecutiveWrong: 5 });
  const { writes } = decide({ pair });
  assert.is(writes?.pair.wrongAttempts, 2);
  assert.is(writes?.pair.lastWrongAt, at(-599.999999));
  assert.is(writes?.pair.consecutiveWrong, 5);
  const quiet = decide({ pair: { ...pair, lastWrongAt: at(-600) } });
  assert.is(quiet.writes?.pair.wrongAttempts, 0);
  assert.is(quiet.writes?.pair.consecutiveWrong, 5);
});

test('a redeemed code is superseded by an open one', () => {
  const { writes } = decide({ pair: pairWith({ digest: null, redeemedAt: at(-1) }) });
  assert.is(writes?.pair.redeemedAt, null);
  assert.equal(writes?.pair.digest, INPUT.digest);
});

test('a policy of its own sets lifetime, limits and retention', () => {
  const policy = {
    ...DEFAULT_POLICY,
    userLimit: 4,
    addressLimit: 9,
    lifetimeSeconds: 60,
    keyRetentionSeconds: 3600,
  };
  const full = { userSlots: FULL_USER, addressSlots: FULL_ADDRESS };
  const { outcome, writes } = decide(full, INPUT, policy);
  assert.is(outcome.kind === 'issued' && outcome.ttlSeconds, 60);
  assert.is(outcome.kind === 'issued' && outcome.remainingRequests, 0);
  assert.is(writes?.pair.expiresAt, at(60));
  assert.is(writes?.answer.expiresAt, at(3600));
});

test.run();
