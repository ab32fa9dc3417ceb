/** The report of a user, to the microsecond. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Otp } from '../../../src/db/tables/otps.ts';
import { createPolicies, DEFAULT_POLICY } from '../../../src/otp/policy/policy.ts';
import { RETENTION } from '../../../src/otp/rules/lifecycle.ts';
import { describeUser } from '../../../src/otp/user-report.ts';
import type { UserReport } from '../../../src/otp/user-report.ts';
import { at, issuedAgo, NOW, otpWith } from './fixtures.ts';

const ONE_MICROSECOND = 0.000001;
const POLICIES = createPolicies(DEFAULT_POLICY,
  new Map([['payment', { ...DEFAULT_POLICY, userLimit: 1, wrongAttempts: 2 }]]));

function describe(otps: readonly Otp[], seconds = 0, unsent = new Set<string>()): UserReport {
  const view = describeUser(otps, unsent, at(seconds), POLICIES);
  if (view === null) throw new Error('nothing is known');
  return view;
}

test('a user without OTPs, or whose OTPs have all expired, is unknown', () => {
  assert.is(describeUser([], new Set(), NOW, POLICIES), null);
  const last = otpWith();
  const end = RETENTION.otpSeconds;
  assert.is(describe([last], end - ONE_MICROSECOND).pairs.length, 1);
  assert.is(describeUser([last], new Set(), at(end), POLICIES), null);
});

test('a point is free exactly 900 s after it was taken', () => {
  const otps = [otpWith({ number: 9 }), ...issuedAgo(100, 500)];
  const before = describe(otps, 400 - ONE_MICROSECOND);
  assert.equal(before.pairs[0]!.freeAt, [at(400), at(800), at(900)]);
  assert.equal(before.pairs.map(({ remaining }) => remaining), [0, 0, 0]);
  const then = describe(otps, 400);
  assert.equal(then.pairs[0]!.freeAt, [at(800), at(900)]);
  assert.equal(then.pairs.map(({ remaining }) => remaining), [1, 1, 1]);
});

test('a device has no more codes left than all devices together', () => {
  const of = (device: string, from: number) => issuedAgo(100, 200).map((otp, nth) =>
    ({ ...otp, device, number: from + nth, otpId: `0${from + nth}`.repeat(16) }));
  const otps = [...of('', 1), ...of('0a', 3), ...of('0b', 5)];
  const leftWith = (count: number) => describe([...otps, ...of('0c', 7)].slice(0, count)).pairs
    .map(({ device, remaining }) => (device === '' ? 'any' : 'own') + remaining);
  assert.equal([...new Set(leftWith(6))], ['any1', 'own1']);
  assert.equal([...new Set(leftWith(7))], ['any1', 'own1'], 'one of 2 that the last one has left');
  assert.equal([...new Set(leftWith(8))], ['any1', 'own0']);
});

test('a refunded point does not count', () => {
  const view = describe([otpWith({ isRefunded: true, closeReason: 'failed', digest: null })]);
  assert.equal(view.pairs[0]!.freeAt, []);
  assert.is(view.pairs[0]?.remaining, 3);
  assert.is(view.pairs[0]?.lastCode?.status, 'failed');
});

test('each purpose has its own limit on the shared points, and its own counts', () => {
  const otps = [otpWith(), otpWith({ number: 2, purpose: 'payment', otpId: '08'.repeat(16),
    wrongAttempts: 1, consecutiveWrong: 1, lastWrongAt: NOW, attemptsMax: 2 })];
  const [login, payment] = describe(otps).pairs;
  assert.is(login!.remaining, 1);
  assert.is(login!.wrongAttempts, 0);
  assert.is(payment!.remaining, 0);
  assert.is(payment!.quota, 1);
  assert.is(payment!.wrongAttempts, 1);
  assert.is(payment!.wrongAttemptsMax, 2);
});

test('a lock is reported until the microsecond of its end, and no attempt counts after it', () => {
  const locked = otpWith({ digest: null, wrongAttempts: 3, consecutiveWrong: 3, lastWrongAt: NOW,
    lockedUntil: at(600) });
  const [before] = describe([locked], 600 - ONE_MICROSECOND).pairs;
  assert.is(before!.lockedUntil, at(600));
  assert.is(before!.wrongAttempts, 3);
  const [then] = describe([locked], 600).pairs;
  assert.is(then!.lockedUntil, null);
  assert.is(then!.wrongAttempts, 0);
  assert.is(then!.consecutiveWrong, 3);
});

test('wrong attempts count until 600 s have passed without one', () => {
  const tried = otpWith({ wrongAttempts: 2, consecutiveWrong: 2, lastWrongAt: NOW });
  assert.is(describe([tried], 600 - ONE_MICROSECOND).pairs[0]?.wrongAttempts, 2);
  assert.is(describe([tried], 600).pairs[0]?.wrongAttempts, 0);
});

test('the wrong attempts of all purposes count for the account, and 100 lock it', () => {
  const login = { digest: null, wrongAttempts: 1, lastWrongAt: NOW, lockedUntil: at(600) };
  const pay = otpWith({ number: 2, purpose: 'pay', consecutiveWrong: 40 });
  const reportOf = (consecutiveWrong: number, kept = { wrong: [0], ofAccount: 0, ofDevices: 0 }) =>
    describeUser([otpWith({ ...login, consecutiveWrong }), pay], new Set(), at(700), POLICIES,
      { kept })!;
  const open = { wrongMax: 100, untrustedMax: 100, isLocked: false, isUntrustedLocked: false };
  assert.equal(reportOf(59).account, { ...open, wrong: 99 });
  const locked = { ...open, wrong: 100, isLocked: true, isUntrustedLocked: true };
  const report = reportOf(60);
  assert.equal([report.account, report.pairs[0]!.lockedUntil], [locked, null]);
  assert.equal(reportOf(59, { wrong: [1], ofAccount: 1, ofDevices: 1 }).account, locked);
  const forgotten = reportOf(3, { wrong: [2], ofAccount: 65_537, ofDevices: 65_537 });
  assert.equal(forgotten.account, { ...locked, wrong: 45 });
});

test('the last code of a pair is its newest OTP with its state and its end', () => {
  const old = otpWith({ otpId: '06'.repeat(16) });
  const code = otpWith({ number: 2 });
  const lastOf = (otp: Otp, seconds = 0, unsent = new Set<string>()) =>
    describe([old, otp], seconds, unsent).pairs[0]?.lastCode;
  assert.equal(lastOf(code, 300 - ONE_MICROSECOND), { kind: 'known', otpId: code.otpId,
    purpose: 'login', status: 'sent', channel: 'console', createdAt: NOW, expiresAt: at(300),
    redeemedAt: null, failure: null });
  assert.is(lastOf(code, 300)?.status, 'expired');
  assert.is(lastOf(code, 0, new Set([code.otpId]))?.status, 'pending');
  const redeemed = lastOf({ ...code, redeemedAt: at(9), digest: null }, 10);
  assert.equal([redeemed?.status, redeemed?.redeemedAt], ['verified', at(9)]);
  assert.is(lastOf({ ...code, closeReason: 'canceled', digest: null })?.status, 'canceled');
  assert.is(lastOf({ ...code, digest: null })?.status, 'locked');
});

test.run();
