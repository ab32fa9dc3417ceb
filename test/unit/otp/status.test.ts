import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Otp } from '../../../src/db/tables/otps.ts';
import { decideCancel } from '../../../src/otp/cancel.ts';
import { statusOf } from '../../../src/otp/status.ts';
import { at, NOW, otpWith } from './fixtures.ts';

const OPEN = otpWith({ createdAt: at(-100), expiresAt: at(200) });
const EXPIRED = otpWith({ createdAt: at(-300), expiresAt: NOW });
const NEWER = otpWith({ number: 2, otpId: '08'.repeat(16) });
const KNOWN_SECONDS = 87_000;

/** [case, OTP, other OTPs of the user, unsent, status, outcome of a cancellation] */
const CASES: [string, Otp, Otp[], boolean, string, string][] = [
  ['an OTP whose message was accepted', OPEN, [], false, 'sent', 'canceled'],
  ['an OTP whose message was not accepted yet', OPEN, [], true, 'pending', 'canceled'],
  ['a verified OTP', { ...OPEN, redeemedAt: NOW, digest: null }, [], false, 'verified', 'used'],
  ['an OTP verified and then superseded', { ...OPEN, redeemedAt: NOW, digest: null }, [NEWER],
    false, 'verified', 'used'],
  ['a superseded OTP', OPEN, [NEWER], false, 'superseded', 'expired'],
  ['an OTP with a newer one of another purpose', OPEN, [{ ...NEWER, purpose: 'other' }], false,
    'sent', 'canceled'],
  ['an OTP at its expiry', EXPIRED, [], false, 'expired', 'expired'],
  ['an OTP a microsecond before its expiry', { ...EXPIRED, expiresAt: at(0.000001) }, [], false,
    'sent', 'canceled'],
  ['an expired OTP with an unsent message', EXPIRED, [], true, 'expired', 'expired'],
  ['an OTP closed by a lock', { ...OPEN, digest: null, lockedUntil: at(60) }, [], false, 'locked',
    'expired'],
  ['a failed OTP', { ...OPEN, digest: null, closeReason: 'failed' }, [], false, 'failed',
    'expired'],
  ['a failed and superseded OTP', { ...OPEN, digest: null, closeReason: 'failed' }, [NEWER], false,
    'failed', 'expired'],
  ['a canceled OTP', { ...OPEN, digest: null, closeReason: 'canceled' }, [], false, 'canceled',
    'canceled'],
  ['a canceled and superseded OTP', { ...OPEN, digest: null, closeReason: 'canceled' }, [NEWER],
    false, 'canceled', 'canceled'],
];

for (const [what, otp, others, isUnsent, status, cancellation] of CASES) {
  test(`${what} has status ${status}, and a cancellation ends as ${cancellation}`, () => {
    const otps = [otp, ...others];
    const told = statusOf(otp, otps, isUnsent, NOW);
    assert.is(told.kind === 'known' && told.status, status);
    const { outcome, otp: written } = decideCancel(otp, otps, NOW, null);
    assert.is(outcome.kind, cancellation);
    const isChanged = cancellation === 'canceled' && otp.closeReason === null;
    assert.equal(written, isChanged ? { ...otp, digest: null, closeReason: 'canceled' } : null);
  });
}

test('only the API client that requested an OTP, or one that may cancel all, cancels it', () => {
  const cases: [string | null, string | null, string][] = [
    ['app1', 'app1', 'canceled'], ['app1', 'app2', 'forbidden'], ['app1', 'App1', 'forbidden'],
    ['app1', null, 'canceled'], [null, 'app1', 'forbidden'], [null, null, 'canceled'],
  ];
  for (const [requestedBy, canceledBy, expected] of cases) {
    const otp = { ...OPEN, apiClient: requestedBy };
    const { outcome, otp: written } = decideCancel(otp, [otp], NOW, canceledBy);
    assert.is(outcome.kind, expected, `${requestedBy} ${canceledBy}`);
    assert.is(written !== null, expected === 'canceled');
    const used = { ...otp, digest: null, redeemedAt: NOW };
    const ofUsed = decideCancel(used, [used], NOW, canceledBy).outcome.kind;
    assert.is(ofUsed, expected === 'canceled' ? 'used' : 'forbidden', 'tells no state to others');
  }
});

test('an API client cancels OTPs of its own purposes alone', () => {
  for (const apiClient of ['app1', null]) {
    const otp = { ...OPEN, apiClient };
    const kindFor = (purposes: string[]) =>
      decideCancel(otp, [otp], NOW, apiClient, new Set(purposes)).outcome.kind;
    assert.equal([kindFor(['login']), kindFor(['pay'])], ['canceled', 'forbidden']);
  }
});

test('a status contains the members of the row', () => {
  assert.equal(statusOf(OPEN, [OPEN], false, NOW), {
    kind: 'known', otpId: OPEN.otpId, purpose: 'login', status: 'sent', channel: 'console',
    createdAt: at(-100), expiresAt: at(200),
  });
});

test('an OTP that is not needed is unknown, whether its row is stored or not', () => {
  const old = otpWith({ createdAt: at(-900), expiresAt: at(-600) });
  const newest = statusOf(old, [old], false, NOW);
  assert.is(newest.kind, 'known', 'the newest of its pair');
  const other = statusOf(old, [old, NEWER], false, NOW);
  assert.is(other.kind, 'unknown', 'another one is newer');
  const forgotten = otpWith({ createdAt: at(-KNOWN_SECONDS), expiresAt: at(-KNOWN_SECONDS + 300) });
  assert.is(statusOf(forgotten, [forgotten], false, NOW).kind, 'unknown');
  assert.is(decideCancel(forgotten, [forgotten], NOW, null).outcome.kind, 'unknown');
  assert.is(statusOf(null, [], false, NOW).kind, 'unknown');
  assert.is(decideCancel(null, [], NOW, 'app1').outcome.kind, 'unknown');
});

test.run();
