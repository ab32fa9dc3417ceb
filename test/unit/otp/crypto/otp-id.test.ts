import { createSecretKey, randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { randomBatchId } from '../../../../src/otp/crypto/random.ts';
import { createOtpIds, decodeOtpId } from '../../../../src/otp/crypto/secrets.ts';
import type { Secret } from '../../../../src/otp/crypto/secrets.ts';

const [FIRST, SECOND]: Secret[] = ['k1', 'k2'].map((id) => ({
  id, key: createSecretKey(randomBytes(32)),
}));
const secretsOf = (...list: Secret[]) =>
  ({ current: list[0]!, byId: new Map(list.map((one) => [one.id, one])) });

test('an id reveals its batch to the holder of the secret', () => {
  const batchId = randomBatchId();
  for (const otpId of createOtpIds(FIRST!, batchId, 3)) {
    assert.match(otpId, /^[0-9a-f]{32}$/);
    assert.equal(decodeOtpId(secretsOf(FIRST!), otpId), [{ otpId, batchId }]);
  }
});

test('after a rotation the older secret is tried too', () => {
  const batchId = randomBatchId();
  const [otpId] = createOtpIds(FIRST!, batchId, 1);
  const places = decodeOtpId(secretsOf(SECOND!, FIRST!), otpId!);
  assert.is(places.length, 2);
  assert.is.not(places[0]!.batchId, batchId);
  assert.is(places[1]!.batchId, batchId);
});

test('without the secret, ids of one batch and of the next are random bits', () => {
  const batchId = randomBatchId();
  const ids = createOtpIds(FIRST!, batchId, 64);
  ids.push(...createOtpIds(FIRST!, randomBatchId(), 64));
  assert.is(new Set(ids).size, 128);
  const bits = ids.map((id) => BigInt(`0x${id}`));
  for (let at = 0n; at < 128n; at += 1n) {
    const ones = bits.filter((id) => ((id >> at) & 1n) === 1n).length;
    // Of 128 fair coins, fewer than 24 or more than 104 show heads once in 10^12 tries.
    assert.ok(ones > 23 && ones < 105, `bit ${at}: ${ones} of 128`);
  }
  for (const half of [0, 16]) {
    assert.is(new Set(ids.map((id) => id.slice(half, half + 16))).size, 128);
  }
  assert.not.ok(ids.some((id) => id.includes(batchId.slice(0, 10))));
});

test('the batch ids of a process increase', () => {
  const ids = Array.from({ length: 3 }, randomBatchId);
  assert.equal([...ids].sort(), ids);
  assert.is(new Set(ids).size, 3);
  assert.is(new Set(ids.map((id) => id.slice(0, 10))).size, 1);
});

test.run();
