import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Otp } from '../../../../src/db/tables/otps.ts';
import { fingerprintRequest } from '../../../../src/otp/crypto/secrets.ts';
import { DEFAULT_POLICY } from '../../../../src/otp/policy/policy.ts';
import { decideRequest } from '../../../../src/otp/request/decide.ts';
import type { NewCode, PreparedRequest, RequestState } from '../../../../src/otp/request/decide.ts';
import { EMPTY_IP_WINDOW } from '../../../../src/otp/rules/ip-limit.ts';
import type { IpWindow } from '../../../../src/otp/rules/ip-limit.ts';
import { storedWith, at, issuedAgo, NOW, otpWith, usedAgo } from '../fixtures.ts';

const REQUEST: PreparedRequest = {
  userId: 'U1',
  purpose: 'login',
  device: '',
  claims: [],
  clientIp: '192.0.2.1', clientNet48: null,
  apiClient: 'app1',
  acceptLanguage: '',
  policy: DEFAULT_POLICY,
  keyDigest: '02'.repeat(16),
  fingerprints: null,
  slotLimits: [{ limit: 'address', subject: '192.0.2.1', quota: 8 }],
  deviceSlotLimits: [],
  appliedLimits: [],
};

/** The state of the client IP. */
function address(window: IpWindow): Pick<RequestState, 'slotWindows'> {
  return { slotWindows: REQUEST.slotLimits.map((limit) => ({ limit, window })) };
}

const CODE: NewCode = {
  otpId: 'ab'.repeat(16),
  keyId: 'k2',
  code: '123456',
  digest: 'cd'.repeat(32),
  batchId: 'ef'.repeat(8),
  batchNumber: 5,
  channel: 'sms',
  isTest: false,
};

const EMPTY: RequestState = {
  now: NOW, stored: null, otps: [], keptWrong: 0, keptAccountWrong: 0,
  ...address(EMPTY_IP_WINDOW), hitWindows: [],
};

const LOCKED = otpWith({
  digest: null, wrongAttempts: 3, lastWrongAt: NOW, lockedUntil: at(600), consecutiveWrong: 3,
});
const FULL_USER = issuedAgo(720, 540, 410);
const FULL_ADDRESS = { slots: usedAgo(10, 20, 30, 40, 50, 60, 70, 80), overflow: null };

function decide(changes: Partial<RequestState>, request: Partial<PreparedRequest> = {}) {
  return decideRequest({ ...EMPTY, ...changes }, { ...REQUEST, ...request }, CODE);
}

test('the first request of a user gets a code', () => {
  const { outcome, writes } = decide({});
  assert.equal(outcome, {
    kind: 'issued',
    otpId: 'ab'.repeat(16),
    ttlSeconds: 300,
    remainingRequests: 2,
    replayed: false,
    limits: [
      { limit: 'user', quota: 3, remaining: 2, resetSeconds: 900, cooldownSeconds: 0 },
      { limit: 'address', quota: 8, remaining: 7, resetSeconds: 900, cooldownSeconds: 0 },
    ],
    shadowed: [],
  });
  assert.equal(writes?.issued, otpWith({
    otpId: CODE.otpId, keyId: 'k2', digest: CODE.digest, expiresAt: at(300),
    batchId: CODE.batchId, batchNumber: 5, channel: 'sms', apiClient: 'app1',
    keyDigest: REQUEST.keyDigest, keyExpiresAt: at(86_400), remainingRequests: 2,
    fingerprint: null,
  }));
  assert.is(writes?.attemptsMoved, null);
  assert.equal(writes?.slotChanges[0]?.write, {
    kind: 'slot', slot: { slot: 0, usedAt: NOW, points: 1, refunded: 0 },
  });
  const again = decide({ stored: writes!.issued, otps: [writes!.issued] });
  assert.equal({ ...again.outcome, limits: outcome.limits }, { ...outcome, replayed: true });
});

/** [case, state, kind, seconds] in the order of the table in docs/api.md, "POST /otp/request". */
const REFUSALS: [string, Partial<RequestState>, string, number | undefined][] = [
  ['a replay, which comes before a lock and both limits,',
    { stored: storedWith(), otps: [LOCKED, ...FULL_USER], ...address(FULL_ADDRESS) },
    'issued', undefined],
  ['another use of the key, which comes before a lock,',
    { stored: storedWith({ purpose: 'pay' }), otps: [LOCKED] }, 'key_reused', undefined],
  ['the key of another user', { stored: storedWith({ userId: 'u1' }) }, 'key_reused', undefined],
  ['a lock, which comes before the limits,', { otps: [LOCKED, ...FULL_USER] }, 'locked', 600],
  ['a request a microsecond before the lock ends',
    { otps: [{ ...LOCKED, lockedUntil: NOW + 1 }] }, 'locked', 1],
  ['an exhausted user limit', { otps: FULL_USER }, 'limited', 180],
  ['an exhausted IP limit', { ...address(FULL_ADDRESS) }, 'limited', 820],
  ['the longer of two waits, that of the client IP,',
    { otps: FULL_USER, ...address(FULL_ADDRESS) }, 'limited', 820],
  ['the longer of two waits, that of the user,',
    { otps: issuedAgo(1, 2, 3), ...address(FULL_ADDRESS) }, 'limited', 897],
  ['a pair that an operator must unlock',
    { otps: [otpWith({ consecutiveWrong: 100, lockedUntil: at(-5000) })] }, 'account_locked',
    undefined],
  ['an account that the wrong attempts of several purposes lock, before a lock and a limit,',
    { otps: [LOCKED, ...FULL_USER, otpWith({ purpose: 'pay', consecutiveWrong: 60 })],
      keptAccountWrong: 37 }, 'account_locked', undefined],
  ['a repeat of a request, which comes before the lock of the account,',
    { stored: storedWith({ purpose: 'login' }), keptAccountWrong: 100 }, 'issued', undefined],
];

for (const [what, state, kind, seconds] of REFUSALS) {
  test(`${what} writes nothing`, () => {
    const { outcome, writes } = decide(state);
    assert.is(outcome.kind, kind);
    assert.is('retryAfterSeconds' in outcome ? outcome.retryAfterSeconds : undefined, seconds);
    assert.is(writes, null);
  });
}

test('the IP limit is neither measured nor written without a client IP', () => {
  const { outcome, writes } = decide({ slotWindows: [] });
  assert.is(outcome.kind, 'issued');
  assert.equal(outcome.limits, [
    { limit: 'user', quota: 3, remaining: 2, resetSeconds: 900, cooldownSeconds: 0 },
  ]);
  assert.equal(writes?.slotChanges, []);
  const limited = decide({ otps: FULL_USER, slotWindows: [] });
  assert.is(limited.outcome.kind === 'limited' && limited.outcome.retryAfterSeconds, 180);
  assert.is(limited.outcome.limits.length, 1);
  const replayed = decide({ stored: storedWith(), otps: FULL_USER, slotWindows: [] });
  assert.is(replayed.outcome.kind, 'issued');
  assert.is(replayed.outcome.limits.length, 1);
});

test('a key stripped from its OTP is compared by the fingerprint of its request', () => {
  const stored = storedWith({
    userId: null, purpose: '', fingerprint: fingerprintRequest('U1', 'login'),
  });
  assert.is(decide({ stored }).outcome.kind, 'issued');
  assert.is(decide({ stored }, { purpose: 'pay' }).outcome.kind, 'key_reused');
  assert.is(decide({ stored }, { userId: 'u1' }).outcome.kind, 'key_reused');
});

test('a replay has the stored members, not the current ones', () => {
  const { outcome } = decide({
    stored: storedWith({ expiresAt: at(67), remainingRequests: 0 }),
  });
  assert.is(outcome.kind === 'issued' && outcome.ttlSeconds, 77);
  assert.is(outcome.kind === 'issued' && outcome.remainingRequests, 0);
  assert.is(outcome.kind === 'issued' && outcome.replayed, true);
});

test('a key expires exactly at the end of its retention', () => {
  assert.is(decide({ stored: storedWith({ keyExpiresAt: NOW + 1 }) }).writes, null);
  assert.ok(decide({ stored: storedWith({ keyExpiresAt: NOW }) }).writes !== null);
});

test('a lock that has ended grants a request and resets the count', () => {
  const { writes } = decide({ otps: [{ ...LOCKED, lockedUntil: NOW }] });
  assert.is(writes?.issued.wrongAttempts, 0);
  assert.is(writes?.issued.lockedUntil, null);
  assert.is(writes?.issued.consecutiveWrong, 3);
});

test('a new code does not reset the count of wrong attempts', () => {
  const otp = otpWith({ wrongAttempts: 2, lastWrongAt: at(-599.999999), consecutiveWrong: 5 });
  const { writes } = decide({ otps: [otp] });
  assert.is(writes?.issued.wrongAttempts, 2);
  assert.is(writes?.issued.lastWrongAt, at(-599.999999));
  assert.is(writes?.issued.consecutiveWrong, 5);
  const quiet = decide({ otps: [{ ...otp, lastWrongAt: at(-600) }] });
  assert.is(quiet.writes?.issued.wrongAttempts, 0);
  assert.is(quiet.writes?.issued.consecutiveWrong, 5);
});

test('a count that was kept from a swept OTP moves to the new one, or locks', () => {
  const kept = (count: number) => ({ keptWrong: count, keptAccountWrong: count });
  assert.is(decide(kept(5)).writes?.issued.consecutiveWrong, 5);
  assert.is(decide(kept(99)).writes?.issued.consecutiveWrong, 99);
  const { outcome, writes } = decide(kept(100));
  assert.is(writes, null);
  assert.is(outcome.kind, 'account_locked');
});

test('a used OTP is superseded by an open one', () => {
  const { writes } = decide({ otps: [otpWith({ digest: null, redeemedAt: at(-1) })] });
  assert.is(writes?.issued.redeemedAt, null);
  assert.equal(writes?.issued.digest, CODE.digest);
});

test('the policy of a purpose sets lifetime, limits and retention', () => {
  const policy = {
    ...DEFAULT_POLICY,
    userLimit: 4,
    addressLimit: 9,
    lifetimeSeconds: 60,
    keyRetentionSeconds: 3600,
  };
  const full = { otps: FULL_USER, address: FULL_ADDRESS };
  const { outcome, writes } = decide(full, { policy });
  assert.is(outcome.kind === 'issued' && outcome.ttlSeconds, 60);
  assert.is(outcome.kind === 'issued' && outcome.remainingRequests, 0);
  assert.is(writes?.issued.expiresAt, at(60));
  assert.is(writes?.issued.keyExpiresAt, at(3600));
});

/** [case, OTPs of the user, the numbers of those that are removed] */
const UNNEEDED: [string, Otp[], number[]][] = [
  ['not the earlier OTP a microsecond before its point is free',
    [otpWith({ createdAt: at(-899.999999) })], []],
  ['the earlier OTP when its point is free', [otpWith({ createdAt: at(-900) })], [1]],
  ['a superseded OTP whose point is free',
    [otpWith({ number: 2 }), otpWith({ number: 1, createdAt: at(-900) })], [1]],
  ['every OTP whose point is free',
    [1, 2, 3].map((number) => otpWith({ number, createdAt: at(-901) })), [1, 2, 3]],
  ['not the newest OTP of another pair',
    [otpWith({ purpose: 'pay', createdAt: at(-1000), expiresAt: at(-700) })], []],
  ['the newest OTP of another pair after a day and the longest lifetime', [otpWith({
    purpose: 'pay', createdAt: at(-87_000), expiresAt: at(-86_700),
  })], [1]],
  ['not that OTP a microsecond earlier', [otpWith({
    purpose: 'pay', createdAt: at(-86_999.999999), expiresAt: at(-86_700),
  })], []],
  ['no OTP that counts the wrong codes of another pair', [otpWith({
    purpose: 'pay', createdAt: at(-200_000), expiresAt: at(-190_000), consecutiveWrong: 1,
  })], []],
];

for (const [what, otps, numbers] of UNNEEDED) {
  test(`a new OTP removes ${what}`, () => {
    assert.equal(decide({ otps }).writes?.obsolete.map(({ number }) => number), numbers);
  });
}

test('an OTP that is not needed keeps its key until the key expires', () => {
  const otps = [NOW + 1, NOW].map((keyExpiresAt, index) => otpWith({
    number: 1 + index, createdAt: at(-900), keyDigest: `0${index}`.repeat(16), keyExpiresAt,
  }));
  const { writes } = decide({ otps });
  assert.equal(writes?.keyOnly, [otps[0]]);
  assert.equal(writes?.obsolete, [otps[1]]);
  const young = otpWith({ keyExpiresAt: at(1) });
  assert.equal(decide({ otps: [young] }).writes?.keyOnly, []);
});

test('a new OTP has the next number of its user, in any order of rows', () => {
  const otps = [otpWith({ number: 4 }), otpWith({ number: 7, purpose: 'pay' }), otpWith()];
  assert.is(decide({ otps }).writes, null, 'the limit');
  assert.is(decide({ otps: otps.slice(0, 2) }).writes?.issued.number, 8);
  assert.is(decide({ otps: [] }).writes?.issued.number, 1);
});

test('the OTP with the highest number of a pair counts, in any order of rows', () => {
  const older = otpWith({ number: 1, lockedUntil: at(500), consecutiveWrong: 3 });
  const newer = otpWith({ number: 2 });
  for (const otps of [[older, newer], [newer, older]]) assert.ok(decide({ otps }).writes !== null);
});

test('the count of wrong attempts moves to the new OTP and is reset in the old one', () => {
  const earlier = otpWith({ consecutiveWrong: 2, wrongAttempts: 2, lastWrongAt: at(-1) });
  const { writes } = decide({ otps: [earlier] });
  assert.equal([writes?.issued.number, writes?.issued.consecutiveWrong], [2, 2]);
  assert.equal(writes?.attemptsMoved, { ...earlier, consecutiveWrong: 0 });
  const old = decide({ otps: [{ ...earlier, createdAt: at(-900) }] }).writes;
  assert.equal([old?.attemptsMoved, old?.obsolete.length], [null, 1]);
  assert.is(decide({ otps: [otpWith()] }).writes?.attemptsMoved, null);
});

test('a key belongs to the optional members of its request, under every secret', () => {
  const withOptions = { fingerprints: ['0a'.repeat(16), '0b'.repeat(16)] };
  const { writes } = decide({}, withOptions);
  assert.is(writes?.issued.fingerprint, '0a'.repeat(16));
  const stored = writes!.issued;
  for (const row of [stored, { ...stored, userId: null }]) {
    assert.is(decide({ stored: row }, withOptions).outcome.kind, 'issued');
    const rotated = { fingerprints: ['0c'.repeat(16), '0a'.repeat(16)] };
    assert.is(decide({ stored: row }, rotated).outcome.kind, 'issued');
    assert.is(decide({ stored: row }).outcome.kind, 'key_reused');
    assert.is(decide({ stored: row }, { fingerprints: ['0b'.repeat(16)] }).outcome.kind,
      'key_reused');
  }
  const plain = storedWith({ fingerprint: fingerprintRequest('U1', 'login') });
  for (const row of [storedWith(), { ...plain, userId: null }]) {
    assert.is(decide({ stored: row }).outcome.kind, 'issued');
    assert.is(decide({ stored: row }, withOptions).outcome.kind, 'key_reused');
  }
});

test.run();
