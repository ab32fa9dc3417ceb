import { createDecipheriv, randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openMessages, sealMessages } from '../../../../src/otp/crypto/sealed-messages.ts';
import type { Sealable } from '../../../../src/otp/crypto/sealed-messages.ts';
import { NOW } from '../fixtures.ts';

const SECRET = { id: 'k1', key: randomBytes(32) };
const OTHER = { id: 'k2', key: randomBytes(32) };
const BUNDLE_ID = randomBytes(8).toString('hex');

function messageTo(userId: string, clientIp: string | null): Sealable {
  const message = {
    otpId: randomBytes(16).toString('hex'), userId, purpose: 'login', code: '012345',
    lifetimeSeconds: 300, expiresAt: NOW, locale: 'de',
  };
  return { message, clientIp };
}

const LIST = [messageTo('ú1 "quoted" \\', '2001:db8:0:1::/64'), messageTo('U2', null)];
const OTP_IDS = LIST.map(({ message }) => message.otpId);
const seal = (): string => sealMessages(SECRET, BUNDLE_ID, LIST);

test('opens what it has sealed, in its order', () => {
  assert.equal(openMessages(SECRET, BUNDLE_ID, OTP_IDS, seal()), LIST);
});

test('nothing of a message is in the sealed text, and no two texts are the same', () => {
  const text = Buffer.from(seal(), 'hex').toString('latin1');
  for (const part of ['012345', 'login', 'quoted', '2001']) assert.not.ok(text.includes(part));
  assert.is.not(seal().slice(24), seal().slice(24));
});

test('opens neither under another secret, nor as another bundle, nor for other codes', () => {
  assert.is(openMessages(OTHER, BUNDLE_ID, OTP_IDS, seal()), null);
  assert.is(openMessages(SECRET, randomBytes(8).toString('hex'), OTP_IDS, seal()), null);
  assert.is(openMessages(SECRET, BUNDLE_ID, [...OTP_IDS].reverse(), seal()), null);
  assert.is(openMessages(SECRET, BUNDLE_ID, OTP_IDS.slice(0, 1), seal()), null);
});

test('opens nothing that was changed, in any of its bytes, or is too short', () => {
  const sealed = Buffer.from(seal(), 'hex');
  for (let at = 0; at < sealed.length; at += 1) {
    const changed = Buffer.from(sealed);
    changed[at]! ^= 1;
    assert.is(openMessages(SECRET, BUNDLE_ID, OTP_IDS, changed.toString('hex')), null, `${at}`);
  }
  for (const length of [0, 11, 12, 27, 28, sealed.length - 1]) {
    const text = sealed.subarray(0, length).toString('hex');
    assert.is(openMessages(SECRET, BUNDLE_ID, OTP_IDS, text), null, `${length}`);
  }
});

test('the server secret itself is no key', () => {
  const sealed = Buffer.from(seal(), 'hex');
  const decipher = createDecipheriv('aes-256-gcm', SECRET.key, sealed.subarray(0, 12));
  decipher.setAAD(Buffer.from(OTP_IDS.join(''), 'hex'));
  decipher.setAuthTag(sealed.subarray(-16));
  decipher.update(sealed.subarray(12, -16));
  assert.throws(() => decipher.final());
});

test.run();
