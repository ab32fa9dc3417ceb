import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DEFAULT_POLICY } from '../../../../src/otp/policy/policy.ts';
import { decideVerify } from '../../../../src/otp/verify/decide.ts';
import type { PreparedVerification, VerifyState } from '../../../../src/otp/verify/decide.ts';
import { at, NOW, otpWith } from '../fixtures.ts';

const RIGHT = '01'.repeat(32);
const WRONG = '02'.repeat(32);
const VERIFY_ID = '05'.repeat(8);

const EMPTY: VerifyState = { now: NOW, stored: null, pair: null, hitWindows: [] };

/** A verification that counts how often its code is compared. */
function attemptWith(digest: string | null, keyDigest: string | null = null, digits = 6) {
  const compared = { count: 0 };
  const attempt: PreparedVerification = {
    userId: 'U1',
    purpose: 'login',
    policy: DEFAULT_POLICY,
    appliedLimits: [],
    digits,
    digestFor: () => {
      compared.count += 1;
      return digest;
    },
    keyDigest,
    verifyId: VERIFY_ID,
  };
  return { attempt, compared };
}

function decide(
  changes: Partial<VerifyState>,
  digest: string | null = RIGHT,
  policy = DEFAULT_POLICY,
) {
  const { attempt, compared } = attemptWith(digest);
  const decision = decideVerify({ ...EMPTY, ...changes }, { ...attempt, policy });
  return { ...decision, compared: compared.count };
}

const LOCKED = otpWith({
  digest: null, wrongAttempts: 3, lastWrongAt: NOW, lockedUntil: at(600), consecutiveWrong: 3,
});

/** [case, state, outcome, comparisons of the code] */
const REFUSALS: [string, Partial<VerifyState>, object, number][] = [
  ['a pair without an OTP', {}, { kind: 'not_found' }, 0],
  ['a locked pair', { pair: LOCKED }, { kind: 'locked', retryAfterSeconds: 600, begins: false }, 0],
  ['a pair a microsecond before its lock ends', { pair: { ...LOCKED, lockedUntil: NOW + 1 } },
    { kind: 'locked', retryAfterSeconds: 1, begins: false }, 0],
  ['an OTP closed by a lock that has ended', { pair: { ...LOCKED, lockedUntil: NOW } },
    { kind: 'expired' }, 1],
  ['a used OTP', { pair: otpWith({ digest: null, redeemedAt: at(-1) }) }, { kind: 'used' }, 0],
  ['an OTP used long ago', { pair: otpWith({ redeemedAt: at(-400), expiresAt: at(-100) }) },
    { kind: 'used' }, 0],
  ['an OTP at its expiry', { pair: otpWith({ expiresAt: NOW }) },
    { kind: 'expired' }, 0],
  ['a pair that an operator must unlock', { pair: otpWith({ consecutiveWrong: 100 }) },
    { kind: 'locked', retryAfterSeconds: 600, begins: false }, 0],
];

for (const [what, state, outcome, comparisons] of REFUSALS) {
  test(`${what} refuses a verification and stays as it is`, () => {
    const decision = decide(state);
    assert.equal(decision.outcome, outcome);
    assert.is(decision.writes, null);
    assert.is(decision.compared, comparisons);
  });
}

test('a right code a microsecond before expiry erases the digest and resets the counts', () => {
  const pair = otpWith({
    expiresAt: NOW + 1, wrongAttempts: 2, lastWrongAt: at(-1), consecutiveWrong: 99,
  });
  const { outcome, writes } = decide({ pair });
  assert.equal(outcome, { kind: 'verified', replayed: false });
  assert.equal(writes, {
    pair: otpWith({ expiresAt: NOW + 1, digest: null, redeemedAt: NOW, verifyIds: VERIFY_ID }),
    stored: null,
    isWrong: false,
  });
});

test('a code whose secret is not configured any more is expired and costs no attempt', () => {
  const { outcome, writes } = decide({ pair: otpWith() }, null);
  assert.equal(outcome, { kind: 'expired' });
  assert.is(writes, null);
});

test('the first and the second wrong code count', () => {
  const first = decide({ pair: otpWith() }, WRONG);
  assert.equal(first.outcome, { kind: 'wrong', attemptsRemaining: 2 });
  assert.equal(first.writes?.pair, otpWith({
    wrongAttempts: 1, consecutiveWrong: 1, lastWrongAt: NOW, verifyIds: VERIFY_ID,
  }));
  const second = decide({ pair: first.writes!.pair }, WRONG);
  assert.equal(second.outcome, { kind: 'wrong', attemptsRemaining: 1 });
});

test('the third wrong code locks the pair and closes the OTP', () => {
  const pair = otpWith({ wrongAttempts: 2, consecutiveWrong: 2, lastWrongAt: at(-10) });
  const { outcome, writes } = decide({ pair }, WRONG);
  assert.equal(outcome, { kind: 'locked', retryAfterSeconds: 600, begins: true });
  assert.is(writes?.pair.lockedUntil, at(600));
  assert.is(writes?.pair.digest, null);
  assert.is(writes?.pair.consecutiveWrong, 3);
});

test('the third attempt may be right', () => {
  const pair = otpWith({ wrongAttempts: 2, consecutiveWrong: 2, lastWrongAt: at(-10) });
  assert.equal(decide({ pair }).outcome, { kind: 'verified', replayed: false });
});

test('the count restarts after exactly the length of a lock without a wrong code', () => {
  const pair = otpWith({ wrongAttempts: 2, consecutiveWrong: 2, lastWrongAt: at(-600) });
  assert.equal(decide({ pair }, WRONG).outcome, { kind: 'wrong', attemptsRemaining: 2 });
  const early = { ...pair, lastWrongAt: at(-599.999999) };
  assert.is(decide({ pair: early }, WRONG).outcome.kind, 'locked');
});

test('the end of a lock resets the wrong attempts but not the consecutive ones', () => {
  const pair = otpWith({ ...LOCKED, digest: RIGHT, lockedUntil: NOW });
  const { outcome, writes } = decide({ pair }, WRONG);
  assert.equal(outcome, { kind: 'wrong', attemptsRemaining: 2 });
  assert.is(writes?.pair.lockedUntil, null);
  assert.is(writes?.pair.consecutiveWrong, 4);
});

test('the last consecutive wrong code locks, also when attempts of the round remain', () => {
  const before = decide({ pair: otpWith({ consecutiveWrong: 98 }) }, WRONG);
  assert.equal(before.outcome, { kind: 'wrong', attemptsRemaining: 1 });
  const last = decide({ pair: otpWith({ consecutiveWrong: 99 }) }, WRONG);
  assert.equal(last.outcome, { kind: 'locked', retryAfterSeconds: 600, begins: true });
  assert.is(last.writes?.pair.consecutiveWrong, 100);
});

test('a key is stored with the right code only, and replays for the same code only', () => {
  const key = '08'.repeat(16);
  const { attempt } = attemptWith(RIGHT, key);
  const won = decideVerify({ ...EMPTY, pair: otpWith() }, attempt);
  assert.equal(won.writes?.stored, {
    keyDigest: key,
    fingerprint: RIGHT.slice(0, 32),
    keyId: 'k1',
    otpId: otpWith().otpId,
    keyExpiresAt: at(86_400),
  });
  const stored = won.writes!.stored;
  const again = decide({ stored, pair: LOCKED });
  assert.equal(again.outcome, { kind: 'verified', replayed: true });
  assert.is(again.writes, null);
  assert.equal(decide({ stored, pair: LOCKED }, WRONG).outcome, { kind: 'key_reused' });
  assert.equal(decide({ stored }, null).outcome, { kind: 'key_reused' });
  const expired = decide({ stored: { ...stored!, keyExpiresAt: NOW }, pair: LOCKED });
  assert.is(expired.outcome.kind, 'locked');
});

test('a wrong code with a key stores nothing under the key', () => {
  const { attempt } = attemptWith(WRONG, '08'.repeat(16));
  const decision = decideVerify({ ...EMPTY, pair: otpWith() }, attempt);
  assert.is(decision.writes?.stored, null);
});

test('the first wrong code locks when one attempt is allowed', () => {
  const pair = otpWith({ attemptsMax: 1, lockSeconds: 1 });
  const { outcome, writes } = decide({ pair }, WRONG);
  assert.equal(outcome, { kind: 'locked', retryAfterSeconds: 1, begins: true });
  assert.is(writes?.pair.lockedUntil, at(1));
});

test('an OTP keeps the numbers of the policy that it was issued under', () => {
  const policy = { ...DEFAULT_POLICY, codeDigits: 8, wrongAttempts: 1, lockSeconds: 5 };
  const first = decide({ pair: otpWith() }, WRONG, policy);
  assert.equal(first.outcome, { kind: 'wrong', attemptsRemaining: 2 });
  const pair = otpWith({ wrongAttempts: 2, consecutiveWrong: 2, lastWrongAt: at(-10) });
  const { outcome, writes } = decide({ pair }, WRONG, policy);
  assert.equal(outcome, { kind: 'locked', retryAfterSeconds: 600, begins: true });
  assert.is(writes?.pair.lockedUntil, at(600));
  assert.equal(decide({ pair }, RIGHT, policy).outcome, { kind: 'verified', replayed: false });
});

test('the limit of consecutive wrong codes and the key retention are those in force', () => {
  const policy = { ...DEFAULT_POLICY, wrongAttemptsUntilUnlock: 3, keyRetentionSeconds: 3600 };
  const { outcome } = decide({ pair: otpWith({ consecutiveWrong: 3 }) }, RIGHT, policy);
  assert.equal(outcome, { kind: 'locked', retryAfterSeconds: 600, begins: false });
  const { attempt } = attemptWith(RIGHT, '08'.repeat(16));
  const { writes } = decideVerify({ ...EMPTY, pair: otpWith() }, { ...attempt, policy });
  assert.is(writes?.stored?.keyExpiresAt, at(3600));
});

/** [case, state, required digits] */
const LENGTHS: [string, Partial<VerifyState>, number][] = [
  ['a pair without an OTP', {}, 8],
  ['an open OTP', { pair: otpWith() }, 6],
  ['a locked pair', { pair: LOCKED }, 6],
  ['a used OTP', { pair: otpWith({ redeemedAt: NOW }) }, 6],
];

for (const [what, state, digits] of LENGTHS) {
  test(`a code of another length is malformed for ${what}`, () => {
    const policy = { ...DEFAULT_POLICY, codeDigits: 8 };
    const { attempt, compared } = attemptWith(RIGHT, null, 7);
    const decision = decideVerify({ ...EMPTY, ...state }, { ...attempt, policy });
    assert.equal(decision, { outcome: { kind: 'malformed', digits }, writes: null });
    assert.is(compared.count, 0);
  });
}

test('a stored key replays although the pair requires a longer code now', () => {
  const key = '08'.repeat(16);
  const won = decideVerify({ ...EMPTY, pair: otpWith() }, attemptWith(RIGHT, key).attempt);
  const state = { ...EMPTY, stored: won.writes!.stored, pair: otpWith({ codeDigits: 8 }) };
  const again = decideVerify(state, attemptWith(RIGHT, key).attempt);
  assert.equal(again.outcome, { kind: 'verified', replayed: true });
  const other = decideVerify(state, attemptWith(WRONG, key).attempt);
  assert.equal(other.outcome, { kind: 'malformed', digits: 8 });
});

test.run();
