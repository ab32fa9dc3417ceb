import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  countConsecutiveWrong, findKnownPair, isExpired, isOpen,
} from '../../../../src/otp/rules/lifecycle.ts';
import { at, NOW, otpWith } from '../fixtures.ts';

const LOGIN = { purpose: 'login', device: '' };
const PAY = { purpose: 'pay', device: '' };

test('the newest OTP of a pair is known for a day and the longest lifetime', () => {
  const old = otpWith({ createdAt: at(-86_999.999999) });
  assert.is(findKnownPair([old], LOGIN, NOW), old);
  assert.is(findKnownPair([{ ...old, createdAt: at(-87_000) }], LOGIN, NOW), null);
  assert.is(findKnownPair([old], PAY, NOW), null);
});

test('an OTP expires also when it counts wrong attempts, and its count outlasts it', () => {
  const old = otpWith({ createdAt: at(-1e7), lastWrongAt: at(-1e6), consecutiveWrong: 2 });
  assert.is(isExpired(old, NOW), true);
  assert.is(countConsecutiveWrong([old], LOGIN, 0), 2);
  assert.is(countConsecutiveWrong([old], PAY, 0), 0);
  assert.is(countConsecutiveWrong([], LOGIN, 3), 3);
  assert.is(isExpired({ ...old, lastWrongAt: at(-86_999) }, NOW), false, 'unlocked of late');
});

test('an older OTP stays superseded after the row of the newest one is removed', () => {
  const older = otpWith({ number: 1, createdAt: at(-87_001), expiresAt: at(-86_401) });
  const newest = otpWith({ number: 2, createdAt: at(-87_000), redeemedAt: at(-86_999) });
  assert.is(findKnownPair([older, newest], LOGIN, NOW), null);
  assert.is(findKnownPair([older], LOGIN, NOW), null);
});

test('each device has pairs of its own', () => {
  const [none, one, other] = ['', '01'.repeat(8), '02'.repeat(8)].map((device, index) =>
    otpWith({ device, number: 1 + index, consecutiveWrong: index }));
  const otps = [none!, one!, other!];
  for (const otp of otps) {
    assert.is(findKnownPair(otps, otp, NOW), otp);
    assert.ok(isOpen(otp, otps), 'no OTP of another device supersedes it');
    assert.is(countConsecutiveWrong(otps, otp, 0), otp.consecutiveWrong);
  }
});

test.run();
