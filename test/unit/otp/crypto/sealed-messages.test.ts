import { createDecipheriv, createSecretKey, randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  openMessages, openReport, sealMessages, sealReport,
} from '../../../../src/otp/crypto/sealed-messages.ts';
import type { Sealable } from '../../../../src/otp/crypto/sealed-messages.ts';
import { NOW } from '../fixtures.ts';

const SECRET = { id: 'k1', key: createSecretKey(randomBytes(32)) };
const OTHER = { id: 'k2', key: createSecretKey(randomBytes(32)) };
const BATCH_ID = randomBytes(8).toString('hex');

function messageTo(userId: string, subjects: readonly string[]): Sealable {
  const message = {
    otpId: randomBytes(16).toString('hex'), userId, purpose: 'login', code: '012345',
    lifetimeSeconds: 300, expiresAt: NOW, locale: 'de', to: null, channel: null,
  };
  return { message, subjects };
}

const MESSAGES = [
  messageTo('ú1 "quoted" \\', ['2001:db8:0:1::/64', '2001:db8::/48', 'recipient:ab']),
  messageTo('U2', []), messageTo('U3', ['192.0.2.1']),
];
const OTP_IDS = MESSAGES.map(({ message }) => message.otpId);
const seal = (): string => sealMessages(SECRET, BATCH_ID, MESSAGES);

test('sealed messages open in their order', () => {
  assert.equal(openMessages(SECRET, BATCH_ID, OTP_IDS, seal()), MESSAGES);
});

test('a sealed text contains nothing of a message, and no two texts are equal', () => {
  const text = Buffer.from(seal(), 'hex').toString('latin1');
  for (const part of ['012345', 'login', 'quoted', '2001']) assert.not.ok(text.includes(part));
  assert.is.not(seal().slice(24), seal().slice(24));
});

test('sealed messages open only under their secret, for their batch and for their OTPs', () => {
  assert.is(openMessages(OTHER, BATCH_ID, OTP_IDS, seal()), null);
  assert.is(openMessages(SECRET, randomBytes(8).toString('hex'), OTP_IDS, seal()), null);
  assert.is(openMessages(SECRET, BATCH_ID, [...OTP_IDS].reverse(), seal()), null);
  assert.is(openMessages(SECRET, BATCH_ID, OTP_IDS.slice(0, 1), seal()), null);
});

test('a sealed text with any changed byte, or a truncated one, does not open', () => {
  const sealed = Buffer.from(seal(), 'hex');
  for (let at = 0; at < sealed.length; at += 1) {
    const changed = Buffer.from(sealed);
    changed[at]! ^= 1;
    assert.is(openMessages(SECRET, BATCH_ID, OTP_IDS, changed.toString('hex')), null, `${at}`);
  }
  for (const length of [0, 11, 12, 27, 28, sealed.length - 1]) {
    const text = sealed.subarray(0, length).toString('hex');
    assert.is(openMessages(SECRET, BATCH_ID, OTP_IDS, text), null, `${length}`);
  }
});

test('a sealed report opens for its OTP under its secret only, and is the same in every attempt',
  () => {
    const [one, two] = MESSAGES as [Sealable, Sealable];
    const sealed = sealReport(SECRET, one);
    assert.match(sealed, /^[\w-]+$/);
    assert.equal(openReport(SECRET, one.message.otpId, sealed), one);
    assert.is(sealReport(SECRET, one), sealed);
    assert.is.not(sealReport(SECRET, { ...one, subjects: [] }).slice(0, 16), sealed.slice(0, 16));
    assert.is(openReport(OTHER, one.message.otpId, sealed), null);
    assert.is(openReport(SECRET, two.message.otpId, sealed), null);
    const text = Buffer.from(sealed, 'base64url').toString('latin1');
    for (const part of ['012345', 'login', 'quoted']) assert.not.ok(text.includes(part));
    for (let at = 0; at < sealed.length - 1; at += 1) {
      const changed = sealed.slice(0, at) + (sealed[at] === 'A' ? 'B' : 'A') + sealed.slice(at + 1);
      assert.is(openReport(SECRET, one.message.otpId, changed), null, `${at}`);
      assert.is(openReport(SECRET, one.message.otpId, sealed.slice(0, at)), null, `${at}`);
    }
  });

test('a message in the outbox does not open as a report, and a report not as a message', () => {
  const [one] = MESSAGES as [Sealable];
  const { otpId } = one.message;
  const asReport = Buffer.from(sealMessages(SECRET, BATCH_ID, [one]), 'hex').toString('base64url');
  assert.is(openReport(SECRET, otpId, asReport), null);
  const inOutbox = sealMessages(SECRET, otpId, [one]);
  assert.is(openReport(SECRET, otpId, Buffer.from(inOutbox, 'hex').toString('base64url')), null);
  const asMessage = Buffer.from(sealReport(SECRET, one), 'base64url').toString('hex');
  assert.is(openMessages(SECRET, otpId, [otpId], asMessage), null);
});

test('the encryption key is not the server secret itself', () => {
  const sealed = Buffer.from(seal(), 'hex');
  const decipher = createDecipheriv('aes-256-gcm', SECRET.key, sealed.subarray(0, 12));
  decipher.setAAD(Buffer.from(OTP_IDS.join(''), 'hex'));
  decipher.setAuthTag(sealed.subarray(-16));
  decipher.update(sealed.subarray(12, -16));
  assert.throws(() => decipher.final());
});

test('a sealed message keeps where it goes and the channel to try first', () => {
  for (const options of [
    { to: '+14155550123', channel: 'sms' as const }, { to: 'a@b.example', channel: null },
    { to: null, channel: 'email' as const },
  ]) {
    const one = MESSAGES[0]!;
    const sealable = { ...one, message: { ...one.message, ...options } };
    const { otpId } = one.message;
    const sealed = sealMessages(SECRET, BATCH_ID, [sealable, MESSAGES[1]!]);
    const opened = openMessages(SECRET, BATCH_ID, OTP_IDS.slice(0, 2), sealed);
    assert.equal(opened, [sealable, MESSAGES[1]]);
    assert.equal(openReport(SECRET, otpId, sealReport(SECRET, sealable)), sealable);
    const text = Buffer.from(sealed, 'hex').toString('latin1');
    for (const part of ['14155550123', 'example']) assert.not.ok(text.includes(part));
  }
});

test.run();
