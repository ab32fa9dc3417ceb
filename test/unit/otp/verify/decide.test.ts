import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { HIT_KINDS } from '../../../../src/db/tables/limit-hits.ts';
import type { Otp } from '../../../../src/db/tables/otps.ts';
import { ACCOUNT_LOCK } from '../../../../src/db/tables/wrong-counts.ts';
import { DEFAULT_POLICY } from '../../../../src/otp/policy/policy.ts';
import { EMPTY_HIT_WINDOW } from '../../../../src/otp/rules/numbered-hits.ts';
import { decideVerify } from '../../../../src/otp/verify/decide.ts';
import type { PreparedVerification, VerifyState } from '../../../../src/otp/verify/decide.ts';
import { at, NOW, otpWith } from '../fixtures.ts';

const RIGHT = '01'.repeat(32);
const WRONG = '02'.repeat(32);
const VERIFY_ID = '05'.repeat(8);

const EMPTY: VerifyState = {
  now: NOW, stored: null, otps: [], device: '', pair: null, accountWrong: 0,
  hitWindows: [],
};

/** A verification that counts how often its code is compared. */
function attemptWith(digest: string | null, keyDigest: string | null = null, digits = 6) {
  const compared = { count: 0 };
  const attempt: PreparedVerification = {
    userId: 'U1',
    purpose: 'login',
    policy: DEFAULT_POLICY,
    claims: [],
    tokenFor: () => undefined,
    appliedLimits: [],
    digits,
    otpId: null,
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
  const accountWrong = changes.pair?.consecutiveWrong ?? 0;
  const decision = decideVerify({ ...EMPTY, accountWrong, ...changes }, { ...attempt, policy });
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
  ['a pair whose OTPs were swept, of a user whom an operator must unlock', { accountWrong: 100 },
    { kind: 'account_locked', begins: false }, 0],
  ['a pair whose OTPs were swept, of a user with a count under the lock', { accountWrong: 99 },
    { kind: 'not_found' }, 0],
  ['an open pair of a user whom an operator must unlock', { pair: otpWith(), accountWrong: 100 },
    { kind: 'account_locked', begins: false }, 0],
  ['a locked pair of a user whom an operator must unlock', { pair: LOCKED, accountWrong: 101 },
    { kind: 'account_locked', begins: false }, 0],
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
    accountLock: null,
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
  assert.is(writes?.pair?.lockedUntil, at(600));
  assert.is(writes?.pair?.digest, null);
  assert.is(writes?.pair?.consecutiveWrong, 3);
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
  assert.is(writes?.pair?.lockedUntil, null);
  assert.is(writes?.pair?.consecutiveWrong, 4);
});

test('the last wrong code of an account locks it, also when the pair has attempts left', () => {
  const before = decide({ pair: otpWith({ consecutiveWrong: 8 }), accountWrong: 98 }, WRONG);
  assert.equal(before.outcome, { kind: 'wrong', attemptsRemaining: 1 });
  assert.is(before.writes?.accountLock, null);
  const last = decide({ pair: otpWith({ consecutiveWrong: 9 }), accountWrong: 99 }, WRONG);
  assert.equal(last.outcome, { kind: 'account_locked', begins: true });
  const { pair, accountLock } = last.writes!;
  assert.equal([pair?.consecutiveWrong, pair?.digest, pair?.lockedUntil, accountLock],
    [10, null, null, ACCOUNT_LOCK]);
  const third = decide({ pair: otpWith({ wrongAttempts: 2, lastWrongAt: NOW }), accountWrong: 99 },
    WRONG);
  assert.is(third.outcome.kind, 'account_locked');
  assert.is(third.writes?.pair?.lockedUntil, at(600), 'the lock of the pair begins as well');
});

test('attempts remaining is the lesser of what is left of the pair and of the account', () => {
  for (const [accountWrong, left] of [[0, 2], [96, 2], [97, 2], [98, 1]] as const) {
    assert.equal(decide({ pair: otpWith(), accountWrong }, WRONG).outcome,
      { kind: 'wrong', attemptsRemaining: left });
  }
});

const ID = { first: '0a'.repeat(16), second: '0b'.repeat(16), newest: '0c'.repeat(16) };
const DIGESTS: Readonly<Record<string, string>>
  = { [ID.first]: '11'.repeat(32), [ID.second]: '12'.repeat(32), [ID.newest]: RIGHT };

/** Verifies the code of one OTP of a pair of three, bound to another one. */
function decideBound(
  otpId: string,
  typed: string | null,
  changes: Readonly<Record<string, Partial<Otp>>> = {},
  state: Partial<VerifyState> = {},
) {
  const otps = Object.values(ID).map((id, index) => otpWith({ number: 1 + index, otpId: id,
    digest: DIGESTS[id]!, createdAt: at(-20 + index), expiresAt: at(280 + index),
    ...changes[id] }));
  const pair = otps.at(-1)!;
  const { attempt } = attemptWith(null);
  return decideVerify(
    { ...EMPTY, otps, pair, accountWrong: pair.consecutiveWrong, ...state },
    { ...attempt, otpId, digestFor: (_key, id) => id === typed ? DIGESTS[id]! : WRONG },
  );
}

/** [case, otp_id, whose code, changes, outcome] */
const BOUND: [string, string, string | null, Record<string, Partial<Otp>>, object][] = [
  ['the newest OTP with its code', ID.newest, ID.newest, {}, { kind: 'verified', replayed: false }],
  ['the newest OTP with a wrong code', ID.newest, null, {},
    { kind: 'wrong', attemptsRemaining: 2 }],
  ['the newest OTP with the code of the first', ID.newest, ID.first, {}, { kind: 'superseded' }],
  ['the newest OTP with the code of the second', ID.newest, ID.second, {}, { kind: 'superseded' }],
  ['the newest OTP with an earlier code a microsecond before its end', ID.newest, ID.first,
    { [ID.first]: { expiresAt: NOW + 1 } }, { kind: 'superseded' }],
  ['the newest OTP with an earlier code at its end', ID.newest, ID.first,
    { [ID.first]: { expiresAt: NOW } }, { kind: 'wrong', attemptsRemaining: 2 }],
  ['the newest OTP with the code of another purpose', ID.newest, ID.first,
    { [ID.first]: { purpose: 'pay' } }, { kind: 'wrong', attemptsRemaining: 2 }],
  ['the newest OTP with a redeemed earlier code', ID.newest, ID.first,
    { [ID.first]: { digest: null, redeemedAt: at(-9) } }, { kind: 'wrong', attemptsRemaining: 2 }],
  ['a used newest OTP', ID.newest, ID.first, { [ID.newest]: { digest: null, redeemedAt: NOW } },
    { kind: 'used' }],
  ['an earlier OTP with its code', ID.first, ID.first, {}, { kind: 'superseded' }],
  ['an earlier OTP with the newest code', ID.second, ID.newest, {}, { kind: 'superseded' }],
  ['an earlier OTP a microsecond before its 15 minutes end', ID.first, ID.first,
    { [ID.first]: { createdAt: at(-899.999999) } }, { kind: 'superseded' }],
  ['an earlier OTP at the end of its 15 minutes', ID.first, ID.first,
    { [ID.first]: { createdAt: at(-900) } }, { kind: 'not_found' }],
  ['an earlier OTP that was redeemed', ID.first, ID.first,
    { [ID.first]: { digest: null, redeemedAt: at(-9) } }, { kind: 'used' }],
  ['an earlier OTP of another purpose', ID.first, ID.first, { [ID.first]: { purpose: 'pay' } },
    { kind: 'not_found' }],
  ['an unknown OTP', '0f'.repeat(16), ID.newest, {}, { kind: 'not_found' }],
];

for (const [what, otpId, typed, changes, outcome] of BOUND) {
  test(`a verification that names ${what} gets its own outcome`, () => {
    const decision = decideBound(otpId, typed, changes);
    assert.equal(decision.outcome, outcome);
    const counts = ['verified', 'wrong'].includes(decision.outcome.kind);
    assert.is(decision.writes !== null, counts);
  });
}

test('the code of a superseded OTP counts as wrong without an otp_id', () => {
  const { attempt } = attemptWith(null);
  const otps = [otpWith({ otpId: ID.first, digest: DIGESTS[ID.first]! }),
    otpWith({ number: 2, otpId: ID.newest })];
  const decision = decideVerify({ ...EMPTY, otps, pair: otps[1]! },
    { ...attempt, digestFor: (_key, id) => id === ID.first ? DIGESTS[id]! : WRONG });
  assert.is(decision.outcome.kind, 'wrong');
});

test('locks decide before the otp_id', () => {
  const locked = { wrongAttempts: 3, lastWrongAt: NOW, lockedUntil: at(600) };
  assert.is(decideBound(ID.first, ID.first, { [ID.newest]: locked }).outcome.kind, 'locked');
  assert.is(decideBound('0f'.repeat(16), null, {}, { accountWrong: 100 }).outcome.kind,
    'account_locked');
});

test('only 16 earlier codes are compared', () => {
  const otps = Array.from({ length: 30 }, (_, index) => otpWith({ number: 1 + index,
    otpId: index.toString(16).padStart(32, '0'), digest: '11'.repeat(32) }));
  const pair = otps.at(-1)!;
  const { attempt, compared } = attemptWith(WRONG);
  const { outcome } = decideVerify({ ...EMPTY, otps, pair }, { ...attempt, otpId: pair.otpId });
  assert.equal([outcome.kind, compared.count], ['wrong', 17]);
});

const KEY = '08'.repeat(16);
const WON = decideVerify({ ...EMPTY, pair: otpWith() }, attemptWith(RIGHT, KEY).attempt)
  .writes!.stored!;

test('a success is stored under its key for 300 s, whatever the policy keeps keys for', () => {
  const policy = { ...DEFAULT_POLICY, keyRetentionSeconds: 3600 };
  const { attempt } = attemptWith(RIGHT, KEY);
  const { writes } = decideVerify({ ...EMPTY, pair: otpWith() }, { ...attempt, policy });
  assert.equal(writes?.stored, {
    keyDigest: KEY,
    fingerprint: RIGHT.slice(0, 32),
    keyId: 'k1',
    otpId: otpWith().otpId,
    keyExpiresAt: at(300),
  });
});

test('a key replays for the same code, also while the pair is locked', () => {
  const again = decide({ stored: WON, pair: LOCKED });
  assert.equal(again, { outcome: { kind: 'verified', replayed: true }, writes: null, compared: 1 });
});

for (const [what, digest] of [['another code', WRONG], ['a lost secret', null]] as const) {
  test(`a key with ${what} is refused and erased, and counts as a wrong code`, () => {
    const { outcome, writes } = decide({ stored: WON, pair: LOCKED }, digest);
    assert.equal(outcome, { kind: 'key_reused' });
    assert.equal(writes, { pair: null, stored: { ...WON, keyExpiresAt: NOW }, isWrong: true,
      accountLock: null });
    const next = decide({ stored: writes!.stored, pair: LOCKED }, digest);
    assert.is(next.outcome.kind, 'locked', 'the erased key counts as new');
  });
}

/** [when, seconds from now to the end of the key, outcome for the right code of a locked pair] */
const ENDS: [string, number, string][] = [
  ['a microsecond before its end', 0.000001, 'verified'],
  ['at its end', 0, 'locked'],
  ['at once', 300, 'verified'],
  ['after the clock was set back', 300.000001, 'locked'],
];

for (const [when, seconds, kind] of ENDS) {
  test(`a key is ${kind === 'verified' ? 'known' : 'new'} ${when}`, () => {
    const stored = { ...WON, keyExpiresAt: at(seconds) };
    assert.is(decide({ stored, pair: LOCKED }).outcome.kind, kind);
    assert.is(decide({ stored, pair: LOCKED }, WRONG).outcome.kind,
      kind === 'verified' ? 'key_reused' : 'locked');
  });
}

test('a wrong code with a key stores nothing under the key', () => {
  const { attempt } = attemptWith(WRONG, '08'.repeat(16));
  const decision = decideVerify({ ...EMPTY, pair: otpWith() }, attempt);
  assert.is(decision.writes?.stored, null);
});

test('the first wrong code locks when one attempt is allowed', () => {
  const pair = otpWith({ attemptsMax: 1, lockSeconds: 1 });
  const { outcome, writes } = decide({ pair }, WRONG);
  assert.equal(outcome, { kind: 'locked', retryAfterSeconds: 1, begins: true });
  assert.is(writes?.pair?.lockedUntil, at(1));
});

test('an OTP keeps the numbers of the policy that it was issued under', () => {
  const policy = { ...DEFAULT_POLICY, codeDigits: 8, wrongAttempts: 1, lockSeconds: 5 };
  const first = decide({ pair: otpWith() }, WRONG, policy);
  assert.equal(first.outcome, { kind: 'wrong', attemptsRemaining: 2 });
  const pair = otpWith({ wrongAttempts: 2, consecutiveWrong: 2, lastWrongAt: at(-10) });
  const { outcome, writes } = decide({ pair }, WRONG, policy);
  assert.equal(outcome, { kind: 'locked', retryAfterSeconds: 600, begins: true });
  assert.is(writes?.pair?.lockedUntil, at(600));
  assert.equal(decide({ pair }, RIGHT, policy).outcome, { kind: 'verified', replayed: false });
});

test('the limit of consecutive wrong codes is the one in force', () => {
  const policy = { ...DEFAULT_POLICY, wrongAttemptsUntilUnlock: 3 };
  const { outcome } = decide({ pair: otpWith({ consecutiveWrong: 3 }) }, RIGHT, policy);
  assert.equal(outcome, { kind: 'account_locked', begins: false });
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

/** A limit of 3 wrong codes an hour, and how many were sent `ago` seconds ago. */
function limitedTo(limit: 'wrong_codes' | 'wrong_codes_net', sent: number, ago = 10) {
  const hits = Array.from({ length: sent }, (_, index) =>
    ({ number: 100 + index, usedAt: at(-ago), points: 1 }));
  const kind = HIT_KINDS[limit];
  return {
    limit: { limit, subject: 's', kind, quota: 3, windowSeconds: 3600 },
    window: { ...EMPTY_HIT_WINDOW, newest: sent === 0 ? null : 99 + sent, hits },
  };
}

const OF_IP = limitedTo('wrong_codes', 3);
const OF_NET = limitedTo('wrong_codes_net', 3, 5);

test('an exhausted limit of wrong codes refuses a right code, and names the longest wait', () => {
  for (const pair of [null, otpWith(), LOCKED, otpWith({ redeemedAt: NOW })]) {
    const decision = decide({ pair, hitWindows: [OF_IP, OF_NET] });
    assert.equal(decision.outcome, { kind: 'limited', retryAfterSeconds: 3595,
      limitedBy: ['wrong_codes', 'wrong_codes_net'] });
    assert.equal([decision.writes, decision.compared], [null, 0]);
  }
  const almost = [limitedTo('wrong_codes', 2), limitedTo('wrong_codes_net', 3, 3600)];
  assert.is(decide({ pair: otpWith(), hitWindows: almost }).outcome.kind, 'verified');
});

test('a limit in shadow refuses nothing and is reported, also next to one that refuses', () => {
  const policy = { ...DEFAULT_POLICY, shadow: new Set(['wrong_codes'] as const) };
  const alone = decide({ pair: otpWith(), hitWindows: [OF_IP] }, RIGHT, policy);
  assert.equal([alone.outcome.kind, alone.shadowed], ['verified', ['wrong_codes']]);
  const both = decide({ pair: otpWith(), hitWindows: [OF_IP, OF_NET] }, RIGHT, policy);
  assert.equal(both.outcome, { kind: 'limited', retryAfterSeconds: 3595,
    limitedBy: ['wrong_codes_net'] });
  assert.equal(both.shadowed, ['wrong_codes']);
});

test('an exhausted limit of wrong codes lets who names the open OTP try, and nobody else', () => {
  const limited = { hitWindows: [OF_IP, OF_NET] };
  assert.is(decideBound(ID.newest, ID.newest, {}, limited).outcome.kind, 'verified');
  assert.is(decideBound(ID.newest, null, {}, limited).outcome.kind, 'wrong');
  assert.is(decideBound(ID.newest, null, {}, { ...limited, accountWrong: 100 }).outcome.kind,
    'account_locked');
  const closed: Partial<Otp>[] = [
    { digest: null, redeemedAt: NOW }, { digest: null }, { expiresAt: NOW },
  ];
  for (const state of closed) {
    const decision = decideBound(ID.newest, ID.newest, { [ID.newest]: state }, limited);
    assert.is(decision.outcome.kind, 'limited');
  }
  for (const otpId of [ID.first, '0f'.repeat(16)]) {
    assert.is(decideBound(otpId, ID.newest, {}, limited).outcome.kind, 'limited');
  }
});

test('a key decides before an exhausted limit', () => {
  const state = { stored: WON, hitWindows: [OF_IP] };
  assert.is(decide(state).outcome.kind, 'verified');
  assert.is(decide(state, WRONG).outcome.kind, 'key_reused');
});

test('a code of another length is malformed and leaves the key, unless the policy changed', () => {
  const won = { ...EMPTY, stored: WON, pair: otpWith({ otpId: WON.otpId }) };
  const { attempt, compared } = attemptWith(WRONG, KEY, 7);
  assert.equal(decideVerify(won, attempt),
    { outcome: { kind: 'malformed', digits: 6 }, writes: null });
  assert.is(compared.count, 0);
  const newer = { ...won, pair: otpWith({ otpId: '08'.repeat(16), codeDigits: 8 }) };
  const again = decideVerify(newer, attemptWith(RIGHT, KEY).attempt);
  assert.equal(again.outcome, { kind: 'verified', replayed: true });
  const other = decideVerify(newer, attemptWith(WRONG, KEY, 7).attempt);
  assert.equal(other.outcome, { kind: 'key_reused' });
});

test.run();
