import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Otp } from '../../src/db/otps.ts';
import { NO_USES } from '../../src/otp/address-uses.ts';
import { decideRequest } from '../../src/otp/decide-request.ts';
import type { RequestInput, RequestState } from '../../src/otp/decide-request.ts';
import { DEFAULT_POLICY } from '../../src/otp/policy.ts';
import { answerWith, at, issuedAgo, NOW, otpWith, usedAgo } from './rows.ts';

const INPUT: RequestInput = {
  userId: 'U1',
  purpose: 'login',
  keyDigest: '02'.repeat(16),
  fingerprint: '03'.repeat(16),
  otpId: 'ab'.repeat(16),
  keyId: 'k2',
  digest: 'cd'.repeat(32),
  bundleId: 'ef'.repeat(8),
  bundleNumber: 5,
  channel: 'sms',
};

const EMPTY: RequestState = {
  now: NOW, answer: null, otps: [], address: NO_USES, tallies: [],
};

const LOCKED = otpWith({
  digest: null, wrongAttempts: 3, lastWrongAt: NOW, lockedUntil: at(600), consecutiveWrong: 3,
});
const FULL_USER = issuedAgo(720, 540, 410);
const FULL_ADDRESS = { slots: usedAgo(10, 20, 30, 40, 50, 60, 70, 80), overflow: null };

function decide(changes: Partial<RequestState>, input = INPUT, policy = DEFAULT_POLICY) {
  return decideRequest({ ...EMPTY, ...changes }, input, policy);
}

test('issues the first code', () => {
  const { outcome, writes } = decide({});
  const user = { quota: 3, remaining: 2, resetSeconds: 900 };
  const address = { quota: 8, remaining: 7, resetSeconds: 900 };
  assert.equal(outcome, {
    kind: 'issued',
    otpId: 'ab'.repeat(16),
    ttlSeconds: 300,
    remainingRequests: 2,
    replayed: false,
    limits: { user, address },
    shadowed: [],
  });
  assert.equal(writes?.otps, [otpWith({
    otpId: INPUT.otpId, keyId: 'k2', digest: INPUT.digest, expiresAt: at(300),
    bundleId: INPUT.bundleId, bundleNumber: 5, channel: 'sms',
  })]);
  assert.equal(writes?.address?.write, {
    kind: 'slot', slot: { slot: 0, usedAt: NOW, points: 1, refunded: 0 },
  });
  assert.equal(writes?.answer, answerWith({
    otpId: INPUT.otpId, remainingRequests: 2, expiresAt: at(86_400),
  }));
});

/** [what, state, kind, seconds] in the order of the contract's table: the first that applies. */
const REFUSALS: [string, Partial<RequestState>, string, number | undefined][] = [
  ['a replay wins over a lock and over both limits',
    { answer: answerWith(), otps: [LOCKED, ...FULL_USER], address: FULL_ADDRESS },
    'issued', undefined],
  ['another use of the key, over a lock',
    { answer: answerWith({ fingerprint: '04'.repeat(16) }), otps: [LOCKED] },
    'key_reused', undefined],
  ['the lock wins over the limits', { otps: [LOCKED, ...FULL_USER] }, 'locked', 600],
  ['a microsecond before the lock ends',
    { otps: [{ ...LOCKED, lockedUntil: NOW + 1 }] }, 'locked', 1],
  ['the user limit', { otps: FULL_USER }, 'limited', 180],
  ['the address limit', { address: FULL_ADDRESS }, 'limited', 820],
  ['the maximum of both', { otps: FULL_USER, address: FULL_ADDRESS }, 'limited', 820],
  ['the other way round',
    { otps: issuedAgo(1, 2, 3), address: FULL_ADDRESS }, 'limited', 897],
  ['an operator must unlock',
    { otps: [otpWith({ consecutiveWrong: 100, lockedUntil: at(-5000) })] }, 'locked', 600],
];

for (const [what, state, kind, seconds] of REFUSALS) {
  test(`writes nothing: ${what}`, () => {
    const { outcome, writes } = decide(state);
    assert.is(outcome.kind, kind);
    assert.is('retryAfterSeconds' in outcome ? outcome.retryAfterSeconds : undefined, seconds);
    assert.is(writes, null);
  });
}

test('without an address its limit is neither measured nor written', () => {
  const { outcome, writes } = decide({ address: null });
  assert.is(outcome.kind, 'issued');
  assert.equal(outcome.limits, {
    user: { quota: 3, remaining: 2, resetSeconds: 900 }, address: null,
  });
  assert.is(writes?.address, null);
  const limited = decide({ otps: FULL_USER, address: null });
  assert.is(limited.outcome.kind === 'limited' && limited.outcome.retryAfterSeconds, 180);
  assert.is(limited.outcome.limits.address, null);
  const replayed = decide({ answer: answerWith(), otps: FULL_USER, address: null });
  assert.is(replayed.outcome.kind, 'issued');
  assert.is(replayed.outcome.limits.address, null);
});

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
  const { writes } = decide({ otps: [{ ...LOCKED, lockedUntil: NOW }] });
  assert.is(writes?.otps[0]?.wrongAttempts, 0);
  assert.is(writes?.otps[0]?.lockedUntil, null);
  assert.is(writes?.otps[0]?.consecutiveWrong, 3);
});

test('a new code does not reset the count of wrong attempts', () => {
  const otp = otpWith({ wrongAttempts: 2, lastWrongAt: at(-599.999999), consecutiveWrong: 5 });
  const { writes } = decide({ otps: [otp] });
  assert.is(writes?.otps[0]?.wrongAttempts, 2);
  assert.is(writes?.otps[0]?.lastWrongAt, at(-599.999999));
  assert.is(writes?.otps[0]?.consecutiveWrong, 5);
  const quiet = decide({ otps: [{ ...otp, lastWrongAt: at(-600) }] });
  assert.is(quiet.writes?.otps[0]?.wrongAttempts, 0);
  assert.is(quiet.writes?.otps[0]?.consecutiveWrong, 5);
});

test('a redeemed code is superseded by an open one', () => {
  const { writes } = decide({ otps: [otpWith({ digest: null, redeemedAt: at(-1) })] });
  assert.is(writes?.otps[0]?.redeemedAt, null);
  assert.equal(writes?.otps[0]?.digest, INPUT.digest);
});

test('a policy of its own sets lifetime, limits and retention', () => {
  const policy = {
    ...DEFAULT_POLICY,
    userLimit: 4,
    addressLimit: 9,
    lifetimeSeconds: 60,
    keyRetentionSeconds: 3600,
  };
  const full = { otps: FULL_USER, address: FULL_ADDRESS };
  const { outcome, writes } = decide(full, INPUT, policy);
  assert.is(outcome.kind === 'issued' && outcome.ttlSeconds, 60);
  assert.is(outcome.kind === 'issued' && outcome.remainingRequests, 0);
  assert.is(writes?.otps[0]?.expiresAt, at(60));
  assert.is(writes?.answer.expiresAt, at(3600));
});

/** [what, codes of the user, the numbers of those that go] */
const UNNEEDED: [string, Otp[], number[]][] = [
  ['the earlier code, a microsecond too early', [otpWith({ createdAt: at(-899.999999) })], []],
  ['the earlier code, when its point is free', [otpWith({ createdAt: at(-900) })], [1]],
  ['a superseded code whose point is free',
    [otpWith({ number: 2 }), otpWith({ number: 1, createdAt: at(-900) })], [1]],
  ['all of them', [1, 2, 3].map((number) => otpWith({ number, createdAt: at(-901) })), [1, 2, 3]],
  ['not the last code of another pair',
    [otpWith({ purpose: 'pay', createdAt: at(-1000), expiresAt: at(-700) })], []],
  ['a day and the longest lifetime later', [otpWith({
    purpose: 'pay', createdAt: at(-87_000), expiresAt: at(-86_700),
  })], [1]],
  ['a microsecond too early', [otpWith({
    purpose: 'pay', createdAt: at(-86_999.999999), expiresAt: at(-86_700),
  })], []],
  ['never one that counts wrong codes', [otpWith({
    purpose: 'pay', createdAt: at(-200_000), expiresAt: at(-190_000), consecutiveWrong: 1,
  })], []],
];

for (const [what, otps, numbers] of UNNEEDED) {
  test(`what goes with a new code: ${what}`, () => {
    assert.equal(decide({ otps }).writes?.unneeded.map(({ number }) => number), numbers);
  });
}

test('a new code has the highest number of its user and one more, in any order of rows', () => {
  const otps = [otpWith({ number: 4 }), otpWith({ number: 7, purpose: 'pay' }), otpWith()];
  assert.is(decide({ otps }).writes, null, 'the limit');
  assert.is(decide({ otps: otps.slice(0, 2) }).writes?.otps[0]?.number, 8);
  assert.is(decide({ otps: [] }).writes?.otps[0]?.number, 1);
});

test('of the codes of a pair the one with the highest number counts, in any order of rows', () => {
  const older = otpWith({ number: 1, lockedUntil: at(500), consecutiveWrong: 3 });
  const newer = otpWith({ number: 2 });
  for (const otps of [[older, newer], [newer, older]]) assert.ok(decide({ otps }).writes !== null);
});

test('the count of wrong attempts moves on, and leaves no trace behind', () => {
  const earlier = otpWith({ consecutiveWrong: 2, wrongAttempts: 2, lastWrongAt: at(-1) });
  const { writes } = decide({ otps: [earlier] });
  assert.equal(writes?.otps.map(({ number, consecutiveWrong }) => [number, consecutiveWrong]),
    [[2, 2], [1, 0]]);
  const old = decide({ otps: [{ ...earlier, createdAt: at(-900) }] }).writes;
  assert.equal([old?.otps.length, old?.unneeded.length], [1, 1]);
  assert.is(decide({ otps: [otpWith()] }).writes?.otps.length, 1);
});

test.run();
