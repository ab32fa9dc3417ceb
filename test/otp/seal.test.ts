import { createDecipheriv, randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openMessage, sealMessage } from '../../src/otp/seal.ts';
import type { MessageContents } from '../../src/otp/seal.ts';

const SECRET = { id: 'k1', key: randomBytes(32) };
const OTHER = { id: 'k2', key: randomBytes(32) };
const OTP_ID = randomBytes(16).toString('hex');
const CONTENTS: MessageContents = {
  userId: 'ú1 "quoted" \\', purpose: 'login', code: '012345', lifetimeSeconds: 300,
  locale: 'de', address: '2001:db8:0:1::/64',
};

test('opens what it has sealed', () => {
  assert.equal(openMessage(SECRET, OTP_ID, sealMessage(SECRET, OTP_ID, CONTENTS)), CONTENTS);
});

test('nothing of a message is in its sealed text, nor in that of another code', () => {
  const sealed = sealMessage(SECRET, OTP_ID, CONTENTS);
  const text = Buffer.from(sealed, 'hex').toString('latin1');
  for (const part of ['012345', 'login', 'quoted', '2001']) assert.not.ok(text.includes(part));
  const other = sealMessage(SECRET, randomBytes(16).toString('hex'), CONTENTS);
  assert.is.not(sealed.slice(0, 32), other.slice(0, 32));
});

test('opens neither under another secret nor as the message of another code', () => {
  const sealed = sealMessage(SECRET, OTP_ID, CONTENTS);
  assert.is(openMessage(OTHER, OTP_ID, sealed), null);
  assert.is(openMessage(SECRET, randomBytes(16).toString('hex'), sealed), null);
});

test('opens nothing that was changed, in any of its bytes, or is too short', () => {
  const sealed = Buffer.from(sealMessage(SECRET, OTP_ID, CONTENTS), 'hex');
  for (let at = 0; at < sealed.length; at += 1) {
    const changed = Buffer.from(sealed);
    changed[at]! ^= 1;
    assert.is(openMessage(SECRET, OTP_ID, changed.toString('hex')), null, `byte ${at}`);
  }
  for (const length of [0, 1, 15, 16, sealed.length - 1]) {
    assert.is(openMessage(SECRET, OTP_ID, sealed.subarray(0, length).toString('hex')), null);
  }
});

test('the server secret itself is no key', () => {
  const sealed = Buffer.from(sealMessage(SECRET, OTP_ID, CONTENTS), 'hex');
  const decipher = createDecipheriv('aes-256-gcm', SECRET.key, Buffer.alloc(12));
  decipher.setAuthTag(sealed.subarray(-16));
  decipher.update(sealed.subarray(0, -16));
  assert.throws(() => decipher.final());
});

test.run();
