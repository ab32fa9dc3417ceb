import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseEmailSettings } from '../../../../src/otp/channels/email-settings.ts';
import type { EmailSettings } from '../../../../src/otp/channels/email-settings.ts';
import { createCertificate } from '../../../harness/certificate.ts';

type Values = Partial<Parameters<typeof parseEmailSettings>[0]>;

const VALUES = { url: 'smtp://mail.example.com', from: 'otpd@example.com', caFile: undefined };

function settingsOf(values: Values): EmailSettings {
  const parsed = parseEmailSettings({ ...VALUES, ...values });
  if ('errors' in parsed) throw new Error(parsed.errors.join('\n'));
  return parsed.settings;
}

function errorsOf(values: Values): string[] {
  const parsed = parseEmailSettings({ ...VALUES, ...values });
  return 'errors' in parsed ? parsed.errors : [];
}

const NONE = { account: null, isLoopback: false };
const ACCOUNT = { user: 'otpd', password: 'p' };

/** [SMTP_URL, the parsed server] */
const SERVERS: [string, EmailSettings['server']][] = [
  ['smtp://mail.example.com', { ...NONE, host: 'mail.example.com', port: 587, isSecure: false }],
  ['smtps://Mail.example.com/', { ...NONE, host: 'mail.example.com', port: 465, isSecure: true }],
  ['smtp://relay:25', { ...NONE, host: 'relay', port: 25, isSecure: false }],
  ['smtps://192.0.2.1:65535', { ...NONE, host: '192.0.2.1', port: 65_535, isSecure: true }],
  ['smtp://[2001:db8::1]:2525', { ...NONE, host: '2001:db8::1', port: 2525, isSecure: false }],
  ['SMTP://otpd:p@mx.example',
    { host: 'mx.example', port: 587, isSecure: false, isLoopback: false, account: ACCOUNT }],
  ['smtp://a%40b.example:p%2F%23%40%20%3A@x.example', { host: 'x.example', port: 587,
    isSecure: false, isLoopback: false, account: { user: 'a@b.example', password: 'p/#@ :' } }],
  ['smtp://localhost', { host: 'localhost', port: 587, isSecure: false, isLoopback: true,
    account: null }],
  ['smtp://127.0.0.2', { host: '127.0.0.2', port: 587, isSecure: false, isLoopback: true,
    account: null }],
  ['smtps://[::1]', { host: '::1', port: 465, isSecure: true, isLoopback: true, account: null }],
  ['smtp://Mail.MÜNCHEN.de',
    { ...NONE, host: 'mail.xn--mnchen-3ya.de', port: 587, isSecure: false }],
  ['smtp://127.example.com',
    { ...NONE, host: '127.example.com', port: 587, isSecure: false }],
];

for (const [url, server] of SERVERS) {
  test(`SMTP_URL is parsed: ${url}`, () => assert.equal(settingsOf({ url }).server, server));
}

for (const url of [
  undefined, '', 'mail.example.com', 'mail.example.com:587', 'http://x.example', 'smtp:', 'smtp://',
  'smtp://x.example:0', 'smtp://x.example:65536', 'smtp://x.example/path', 'smtp://x.example?a=b',
  'smtp://x.example#a', 'smtp://x.example/?', 'smtp://user@x.example', 'smtp://:p@x.example',
  'smtp://u:%zz@x.example', 'smtp://u:%ff@x.example', 'smtp://-x.example', 'smtp://%zz.example',
  'smtp://x.example%00',
  'smtp://u:p/w@x.example', 'smtp://u:p#w@x.example', 'smtp://x example',
]) {
  test(`an invalid SMTP_URL is an error: ${url}`, () => {
    const [error, ...others] = errorsOf({ url });
    assert.match(error ?? '', /^SMTP_URL must be smtp:\/\/USER:PASSWORD@HOST:587 \(STARTTLS\) or/);
    assert.equal(others, []);
  });
}

/** [EMAIL_FROM, name, address] */
const SENDERS: [string, string, string][] = [
  ['otpd@example.com', '', 'otpd@example.com'],
  ['<otpd@example.com>', '', 'otpd@example.com'],
  ['Acme Ümlaut <no-reply@mail.example.com>', 'Acme Ümlaut', 'no-reply@mail.example.com'],
  ['"Acme, Inc. <x>" <a.b@example.com>', 'Acme, Inc. <x>', 'a.b@example.com'],
  ['Acme <otpd@münchen.de>', 'Acme', 'otpd@xn--mnchen-3ya.de'],
];

for (const [from, name, address] of SENDERS) {
  test(`EMAIL_FROM is parsed: ${from}`, () => {
    assert.equal(settingsOf({ from }).from, { name, address });
  });
}

for (const from of [
  undefined, '', 'otpd', 'otpd@localhost', 'a@b.example, c@d.example', 'Acme otpd@example.com',
  'Acme <otpd@example.com', 'Acme <a@b.example> <c@d.example>', '"Acme <a@b.example>',
  'Acme\r\nBcc: x@y.example <a@b.example>', `${'n'.repeat(101)} <a@b.example>`,
]) {
  test(`an invalid EMAIL_FROM is an error: ${JSON.stringify(from)}`, () => {
    assert.equal(errorsOf({ from }),
      ['EMAIL_FROM must be ADDRESS or NAME <ADDRESS>, such as Acme <no-reply@example.com>']);
  });
}

test('SMTP_CA must be a readable PEM file', () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-ca-'));
  try {
    const { cert, key } = createCertificate();
    const [good, bad] = [join(folder, 'good'), join(folder, 'bad')];
    writeFileSync(good, cert);
    writeFileSync(bad, key);
    assert.is(settingsOf({ caFile: good }).ca, cert);
    assert.equal(errorsOf({ caFile: bad }),
      [`SMTP_CA names a file without a PEM certificate: ${bad}`]);
    assert.equal(errorsOf({ caFile: `${bad}2` }),
      [`SMTP_CA names a file that cannot be read (ENOENT): ${bad}2`]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('every error is reported at once, without a password', () => {
  const errors = errorsOf({ url: 'smtp://u:se/cret@x', from: '', caFile: '/nowhere' });
  assert.equal(errors.map((error) => error.split(' ')[0]), ['SMTP_URL', 'EMAIL_FROM', 'SMTP_CA']);
  assert.not.match(errors.join(), /se\/cret/);
});

test.run();
