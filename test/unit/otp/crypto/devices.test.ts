import { Buffer } from 'node:buffer';
import { createSecretKey } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addSeconds, parseInstant } from '../../../../src/db/instant.ts';
import type { Instant } from '../../../../src/db/instant.ts';
import {
  createDeviceToken, readDeviceTokens, trustedDevice,
} from '../../../../src/otp/crypto/devices.ts';
import type { Secret, Secrets } from '../../../../src/otp/crypto/secrets.ts';

const COUNTING = Buffer.from(Array.from({ length: 32 }, (_, byte) => byte));
const K1: Secret = { id: 'k1', key: createSecretKey(COUNTING) };
const K2: Secret = { id: 'k2', key: createSecretKey(Buffer.alloc(32, 'another')) };
const SECRETS: Secrets = { current: K2, byId: new Map([['k2', K2], ['k1', K1]]) };
const OTP = { userId: 'U1', device: '', otpId: '0123456789abcdef0123456789abcdef' };
const REDEEMED_AT = parseInstant('2026-01-05 08:00:30.999999');
const TOKEN = 'k1.avm4EgEH-NVpW2-ev-PwO6YmCmgmI8dZlSlVFw';
const DEVICE = '6af9b8120107f8d5';
const CLAIM = { device: DEVICE, issuedAt: parseInstant('2026-01-05 08:00:30.000000') };

const read = (field: string, userId = 'U1') => readDeviceTokens(SECRETS, userId, field);

test('a token is the one that the contract gives as an example', () => {
  assert.is(createDeviceToken(K1, OTP, REDEEMED_AT), TOKEN);
  assert.equal(read(TOKEN), [CLAIM]);
});

test('a success renews the time of a token and keeps its device', () => {
  const later = addSeconds(REDEEMED_AT, 60);
  const renewed = createDeviceToken(K2, { ...OTP, device: DEVICE }, later);
  assert.match(renewed, /^k2\./);
  assert.equal(read(renewed), [{ device: DEVICE, issuedAt: addSeconds(CLAIM.issuedAt, 60) }]);
});

test('a token that was made for another user, or changed in any character, is ignored', () => {
  assert.equal(read(TOKEN, 'U2'), []);
  assert.equal(read(TOKEN, 'u1'), []);
  for (let at = 0; at < TOKEN.length; at += 1) {
    for (const other of ['A', '.', '-', '~', ' ']) {
      if (TOKEN[at] === other) continue;
      assert.equal(read(TOKEN.slice(0, at) + other + TOKEN.slice(at + 1)), [], `${at} ${other}`);
    }
  }
});

test('a field that is no list of tokens is ignored', () => {
  const malformed = ['', ',', '.', 'k1', 'k1.', `${TOKEN}.`, `${TOKEN}=`, `.${TOKEN}`,
    TOKEN.slice(1), `${TOKEN}A`,
    TOKEN.slice(0, -1), `k3${TOKEN.slice(2)}`, `"${TOKEN}"`, '\u0000', 'k1.é'];
  for (const field of malformed) assert.equal(read(field), [], JSON.stringify(field));
});

test('the first 8 tokens of a list are read, whatever stands around them', () => {
  assert.equal(read(` x , ${TOKEN}\t,, ${TOKEN} `), [CLAIM, CLAIM]);
  assert.equal(read(`${'x,'.repeat(7)}${TOKEN}`), [CLAIM]);
  assert.equal(read(`${'x,'.repeat(8)}${TOKEN}`), []);
});

test('a device is trusted until the microsecond at which its days end', () => {
  const end = addSeconds(CLAIM.issuedAt, 30 * 86_400);
  assert.is(trustedDevice([CLAIM], [], end - 1, 30), DEVICE);
  assert.is(trustedDevice([CLAIM], [], end, 30), '');
  assert.is(trustedDevice([CLAIM], [], end, 31), DEVICE);
  assert.is(trustedDevice([CLAIM], [], REDEEMED_AT, null), '', 'no policy trusts devices');
});

test('a revoked device is not trusted, and the first valid token of a list counts', () => {
  const other = { ...CLAIM, device: '02'.repeat(8) };
  const revoked = { userId: 'U1', device: DEVICE, revokedAt: REDEEMED_AT };
  assert.is(trustedDevice([CLAIM], [revoked], REDEEMED_AT, 30), '');
  assert.is(trustedDevice([CLAIM, other], [revoked], REDEEMED_AT, 30), other.device);
  assert.is(trustedDevice([other, CLAIM], [], REDEEMED_AT, 30), other.device);
  const renewed = { device: DEVICE, issuedAt: addSeconds(CLAIM.issuedAt, 60) };
  assert.is(trustedDevice([renewed], [revoked], renewed.issuedAt, 30), '', 'for good');
});

test('a revocation of all devices ends the tokens of earlier seconds by their time', () => {
  const revokedAt = (at: Instant) => [{ userId: 'U1', device: '', revokedAt: at }];
  assert.is(trustedDevice([CLAIM], revokedAt(addSeconds(CLAIM.issuedAt, 1)), REDEEMED_AT, 30), '');
  const within = revokedAt(addSeconds(CLAIM.issuedAt, 1) - 1);
  assert.is(trustedDevice([CLAIM], within, REDEEMED_AT, 30), DEVICE, 'it may have followed');
});

test.run();
