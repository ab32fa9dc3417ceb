/** Parsing of WEBHOOK_URL, WEBHOOK_SECRETS, WEBHOOK_ALLOW_HTTP and WEBHOOK_CA. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  parseWebhookSecrets, parseWebhookSettings,
} from '../../../../src/otp/channels/webhook-settings.ts';
import type {
  WebhookSettings, WebhookValues,
} from '../../../../src/otp/channels/webhook-settings.ts';
import { createCertificate } from '../../../harness/certificate.ts';
import { atEnd, endAll, newWebhookSecret } from './fixture.ts';

const RIGHT: WebhookValues = {
  url: 'https://hooks.example/otp?tenant=7',
  secrets: newWebhookSecret(),
  allowHttp: undefined,
  caFile: undefined,
};

const folder = mkdtempSync(join(tmpdir(), 'otpd-webhook-'));
atEnd(() => rmSync(folder, { recursive: true }));

function fileWith(text: string | Buffer): string {
  const path = join(folder, randomBytes(6).toString('hex'));
  writeFileSync(path, text);
  return path;
}

function errorsOf(values: Partial<WebhookValues>): string[] {
  const parsed = parseWebhookSettings({ ...RIGHT, ...values });
  return 'errors' in parsed ? parsed.errors : [];
}

function settingsOf(values: Partial<WebhookValues>): WebhookSettings {
  const parsed = parseWebhookSettings({ ...RIGHT, ...values });
  if ('errors' in parsed) throw new Error(parsed.errors.join('; '));
  return parsed.settings;
}

test('settings are parsed and frozen', () => {
  const old = randomBytes(64);
  const caFile = fileWith(createCertificate().cert);
  const settings = settingsOf({
    secrets: `${RIGHT.secrets} , whsec_${old.toString('base64').replace(/=+$/, '')}`, caFile,
  });
  assert.is(settings.url.href, RIGHT.url);
  assert.is(settings.caFile, caFile);
  assert.is(settings.secrets.length, 2);
  assert.is(`whsec_${settings.secrets[0]?.toString('base64')}`, RIGHT.secrets);
  assert.equal(settings.secrets[1], old);
  assert.ok(Object.isFrozen(settings) && Object.isFrozen(settings.secrets));
  assert.is(settingsOf({}).caFile, null);
});

test('http is accepted to this machine, and elsewhere with WEBHOOK_ALLOW_HTTP', () => {
  const here = ['http://localhost:8080/', 'http://127.0.0.1/', 'http://127.8.9.1:1/x',
    'HTTP://[::1]'];
  for (const url of here) assert.equal(errorsOf({ url }), [], url);
  const elsewhere = ['http://hooks.internal/', 'http://10.0.0.1/', 'http://localhost.example/',
    'http://127.0.0.1.example/', 'http://[::2]/', 'http://[::ffff:10.0.0.1]/'];
  for (const url of elsewhere) {
    const error = 'WEBHOOK_URL must use https, because its host is not this machine';
    assert.equal(errorsOf({ url }), [error], url);
    assert.equal(errorsOf({ url, allowHttp: '0' }), [error], url);
    assert.equal(errorsOf({ url, allowHttp: '1' }), [], url);
  }
});

test('a text that is no URL, and a URL with credentials or a fragment, are errors', () => {
  const shapeless = ['', 'hooks.example', 'ftp://hooks.example/', 'https:/hooks.example',
    'https://', 'https:///hooks.example', 'https://hooks example/', 'https://hooks.example/\n',
    ' https://h/', 'https://h:99999/', 'https://[::1/', 'javascript:alert(1)'];
  for (const url of shapeless) {
    const error = 'WEBHOOK_URL must be a URL such as https://host/path';
    assert.equal(errorsOf({ url }), [error], url);
  }
  for (const url of ['https://u:p@hooks.example/', 'https://u@hooks.example/', 'https://:p@h/']) {
    const error = 'WEBHOOK_URL must not contain a user name or password';
    assert.equal(errorsOf({ url }), [error], url);
  }
  for (const url of ['https://hooks.example/#a', 'https://hooks.example/#']) {
    assert.equal(errorsOf({ url }), ['WEBHOOK_URL must not have a fragment'], url);
  }
});

const GOOD = newWebhookSecret();
const GOOD_BUT_FOR_URLS = `whsec_-_${randomBytes(30).toString('base64url')}`;

/** [WEBHOOK_SECRETS, the error] */
const SECRET_ERRORS: [string, string][] = [
  ['', 'entry 1 must begin with whsec_'],
  [GOOD.slice(6), 'entry 1 must begin with whsec_'],
  [`${GOOD},`, 'entry 2 must begin with whsec_'],
  ['whsec_', 'entry 1 must have 24 to 64 bytes'],
  ['whsec_not*base64', 'entry 1 is not base64'],
  [`${GOOD} x`, 'entry 1 is not base64'],
  [GOOD_BUT_FOR_URLS, 'entry 1 is not base64'],
  [newWebhookSecret(23), 'entry 1 must have 24 to 64 bytes'],
  [newWebhookSecret(65), 'entry 1 must have 24 to 64 bytes'],
  [`whsec_${Buffer.alloc(32).toString('base64')}`, 'entry 1 is a sample, not a random secret'],
  [`whsec_${Buffer.from('0123456789'.repeat(4)).toString('base64')}`,
    'entry 1 is a sample, not a random secret'],
  [`${GOOD},${GOOD}`, 'contains a secret twice'],
  [`${GOOD},${newWebhookSecret()},${newWebhookSecret()}`, 'has more than 2 secrets'],
];

for (const [text, error] of SECRET_ERRORS) {
  test(`invalid secrets are refused without quoting them: ${error}`, () => {
    assert.equal(parseWebhookSecrets(text), { errors: [error] });
  });
}

test('secrets of 24 to 64 bytes are accepted', () => {
  for (let tries = 0; tries < 200; tries += 1) {
    for (const bytes of [24, 32, 64]) {
      assert.ok('secrets' in parseWebhookSecrets(newWebhookSecret(bytes)), String(bytes));
    }
  }
});

test('WEBHOOK_CA must be a readable file with a certificate', () => {
  const unreadable = 'WEBHOOK_CA names a file that cannot be read';
  const none = join(folder, 'none');
  assert.equal(errorsOf({ caFile: none }), [`${unreadable} (ENOENT): ${none}`]);
  assert.equal(errorsOf({ caFile: folder }), [`${unreadable} (EISDIR): ${folder}`]);
  const { cert, key } = createCertificate();
  const der = Buffer.from(cert.replace(/-----.*-----/g, ''), 'base64');
  for (const text of ['', 'x', key, der, cert.replace('BEGIN', 'BEGUN')]) {
    const caFile = fileWith(text);
    assert.equal(errorsOf({ caFile }),
      [`WEBHOOK_CA names a file without a PEM certificate: ${caFile}`]);
  }
  assert.equal(errorsOf({ caFile: fileWith(`of our own\n${cert}`) }), []);
  assert.equal(errorsOf({ caFile: fileWith(cert), url: 'http://127.0.0.1/' }),
    ['WEBHOOK_CA must not be set, because WEBHOOK_URL does not use https']);
});

test('every error is reported at once, names its variable and quotes no value', () => {
  const short = newWebhookSecret(12);
  const errors = errorsOf({
    url: 'https://user:hunter2@hooks.example/token', secrets: short, allowHttp: 'yes',
    caFile: '/nowhere.pem',
  });
  assert.equal(errors.map((error) => /^WEBHOOK_[A-Z_]+/.exec(error)?.[0]),
    ['WEBHOOK_URL', 'WEBHOOK_SECRETS', 'WEBHOOK_ALLOW_HTTP', 'WEBHOOK_CA']);
  for (const secret of [short.slice(6), 'hunter2', 'token', 'yes']) {
    assert.not.match(errors.join('\n'), secret);
  }
  assert.equal(errorsOf({ url: undefined, secrets: undefined }), ['WEBHOOK_URL must be set',
    'WEBHOOK_SECRETS must be set (whsec_ and the base64 of 32 random bytes)']);
});

test.after(endAll);
test.run();
