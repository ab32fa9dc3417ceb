import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  countConsecutiveWrong, findKnownPair, isExpired,
} from '../../../../src/otp/rules/lifecycle.ts';
import { at, NOW, otpWith } from '../fixtures.ts';

test('the newest OTP of a pair is known for a day and the longest lifetime', () => {
  const old = otpWith({ createdAt: at(-86_999.999999) });
  assert.is(findKnownPair([old], 'login', NOW), old);
  assert.is(findKnownPair([{ ...old, createdAt: at(-87_000) }], 'login', NOW), null);
  assert.is(findKnownPair([old], 'pay', NOW), null);
});

test('an OTP expires also when it counts wrong attempts, and its count outlasts it', () => {
  const old = otpWith({ createdAt: at(-1e7), lastWrongAt: at(-1e6), consecutiveWrong: 2 });
  assert.is(isExpired(old, NOW), true);
  assert.is(countConsecutiveWrong([old], 'login', 0), 2);
  assert.is(countConsecutiveWrong([old], 'pay', 0), 0);
  assert.is(countConsecutiveWrong([], 'login', 3), 3);
  assert.is(isExpired({ ...old, lastWrongAt: at(-86_999) }, NOW), false, 'unlocked of late');
});

test('an older OTP stays superseded after the row of the newest one is removed', () => {
  const older = otpWith({ number: 1, createdAt: at(-87_001), expiresAt: at(-86_401) });
  const newest = otpWith({ number: 2, createdAt: at(-87_000), redeemedAt: at(-86_999) });
  assert.is(findKnownPair([older, newest], 'login', NOW), null);
  assert.is(findKnownPair([older], 'login', NOW), null);
});

test.run();
