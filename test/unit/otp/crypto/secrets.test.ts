import { createSecretKey, randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { randomCode, randomHex } from '../../../../src/otp/crypto/random.ts';
import {
  digestCode, digestKey, fingerprintOptions, fingerprintRequest, parseSecrets,
} from '../../../../src/otp/crypto/secrets.ts';

const A = randomBytes(32).toString('base64');
const B = randomBytes(48).toString('base64');

test('secrets are parsed, and the first one signs', () => {
  const parsed = parseSecrets(`new:${A}, old:${B}`);
  assert.ok('secrets' in parsed);
  if (!('secrets' in parsed)) return;
  assert.is(parsed.secrets.current.id, 'new');
  assert.is(parsed.secrets.byId.get('old')?.key.symmetricKeySize, 48);
});

/** [OTP_SECRETS, the error] */
const ERRORS: [string, RegExp][] = [
  ['', /entry 1 must be id:base64/],
  [A, /entry 1 must be id:base64/],
  [`k:${A}:x`, /entry 1 must be id:base64/],
  [`k:${A},`, /entry 2 must be id:base64/],
  [`k:${randomBytes(31).toString('base64')}`, /entry 1 must have at least 32 bytes/],
  [`k:${Buffer.alloc(32).toString('base64')}`, /entry 1 is a sample/],
  [`k:${Buffer.from('0123456789'.repeat(4)).toString('base64')}`, /entry 1 is a sample/],
  ['k:not*base64', /entry 1 is not base64/],
  [`k k:${A}`, /entry 1 must have an id of 1 to 32/],
  [`${'k'.repeat(33)}:${A}`, /entry 1 must have an id of 1 to 32/],
  [`k:${A},k:${B}`, /contains an id twice/],
];

for (const [text, error] of ERRORS) {
  test(`invalid secrets are refused without quoting them: ${error}`, () => {
    const parsed = parseSecrets(text);
    assert.ok('errors' in parsed);
    const errors = 'errors' in parsed ? parsed.errors.join('\n') : '';
    assert.match(errors, error);
    assert.not.match(errors, A);
  });
}

test('the digest of a code depends on secret, otp_id, user_id, purpose and code', () => {
  const secret = { id: 'k', key: createSecretKey(randomBytes(32)) };
  const id = randomHex(16);
  const digests = [
    digestCode(secret, id, 'ab', 'c', '123456'),
    digestCode(secret, id, 'a', 'bc', '123456'),
    digestCode(secret, id, 'ab', 'c', '123457'),
    digestCode(secret, randomHex(16), 'ab', 'c', '123456'),
    digestCode({ id: 'k', key: createSecretKey(randomBytes(32)) }, id, 'ab', 'c', '123456'),
  ];
  assert.is(new Set(digests).size, digests.length);
  assert.not.equal(fingerprintRequest('a', 'b|c'), fingerprintRequest('a|b', 'c'));
  assert.is(digests[0]?.length, 64);
});

test('the digest of a key depends on operation, API client and key', () => {
  const digests = [null, 'app1', 'app2', 'app'].flatMap((apiClient) =>
    ['k', '1:k', 'app1:k'].flatMap((key) =>
      [digestKey('request', key, apiClient), digestKey('verify', key, apiClient)]));
  assert.is(new Set(digests).size, digests.length);
});

test('the digest of a key without an API client is stable across versions', () => {
  assert.is(digestKey('request', 'k', null), '84aba37abe040e1cede4b851aa1d8e56');
  assert.is(digestKey('verify', 'k', null), '7aab19840193797ac20c3b5aeca3a30b');
});

test('every code is equally likely, and leading zeros are kept', () => {
  const buckets = new Array<number>(100).fill(0);
  const draws = 100_000;
  for (let i = 0; i < draws; i += 1) {
    const code = randomCode(6);
    assert.match(code, /^\d{6}$/);
    buckets[Math.floor(Number(code) / 10_000)]! += 1;
  }
  const expected = draws / buckets.length;
  const chiSquare = buckets.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
  // With 99 degrees of freedom a value above 180 occurs once in a million runs by chance.
  assert.ok(chiSquare < 180, `chi-square ${chiSquare}`);
  assert.match(randomCode(10), /^\d{10}$/);
});

test('the fingerprint of optional members is keyed, and differs in each of them', () => {
  const key = () => randomBytes(32).toString('base64');
  const parsed = parseSecrets(`a:${key()},b:${key()}`);
  if ('errors' in parsed) throw new Error(parsed.errors.join());
  const { secrets } = parsed;
  const names = { userId: 'u', purpose: 'p' };
  assert.is(fingerprintOptions(secrets, names), null);
  assert.is(fingerprintOptions(secrets, { ...names, to: null, channel: null, locale: null }), null);
  const requests = [
    { ...names, to: 'de' }, { ...names, channel: 'de' }, { ...names, locale: 'de' },
    { ...names, to: 'd', locale: 'e' }, { ...names, to: 'de', locale: 'de' },
    { userId: 'u', purpose: 'pp', to: 'de' }, { userId: 'up', purpose: 'p', to: 'de' },
  ];
  const all = requests.flatMap((request) => fingerprintOptions(secrets, request));
  assert.is(new Set(all).size, 2 * requests.length);
  assert.equal(fingerprintOptions(secrets, requests[0]!), all.slice(0, 2));
  assert.match(all[0]!, /^[0-9a-f]{32}$/);
});

test.run();
