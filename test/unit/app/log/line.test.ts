/** The format of log lines, by example and by property, and the pseudonyms in them. */
import { createSecretKey, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { toJsonLine, member, quote, toTextLine } from '../../../../src/app/log/line.ts';
import { describeError } from '../../../../src/app/log/log.ts';
import { createPseudonyms } from '../../../../src/otp/crypto/secrets.ts';

const TIME = '2026-11-24T12:13:45.678Z';
const NASTY = 'a"b\\c\r\n\u0000\u001b[31m\u007f\u0085\u2028\u202e\ud800é😀';

test('quote encodes any text in printable ASCII without loss', () => {
  const texts = fc.oneof(fc.string({ unit: 'binary' }), fc.string(), fc.constant(NASTY));
  fc.assert(fc.property(texts, (text) => {
    const line = quote(text, Infinity);
    assert.match(line, /^"[\x20-\x7e]*"$/);
    assert.is(JSON.parse(line), text);
  }));
});

test('quote cuts a long text and keeps it valid JSON', () => {
  const texts = fc.oneof(fc.string({ unit: 'binary', maxLength: 300 }), fc.string());
  fc.assert(fc.property(texts, fc.integer({ min: 10, max: 100 }), (text, max) => {
    const line = quote(text, max);
    assert.ok(line.length <= max + 2, line);
    const back = JSON.parse(line) as string;
    if (back !== text) assert.ok(back.endsWith('...') && text.startsWith(back.slice(0, -3)));
  }));
  assert.is(quote('x'.repeat(11), 10), '"xxxxxxx..."');
});

test('a line omits a member without a value', () => {
  for (const nothing of [undefined, null, '']) assert.is(member('a', nothing, 9), '');
  assert.is(member('a', 'b', 9), ',"a":"b"');
});

test('the text format puts time of day, level, event and members on one line', () => {
  const members = ',"route":"/otp/verify","method":"POST","status":401,"outcome":"invalid_code",'
    + '"duration_ms":3.2,"purpose":"log in"';
  const line = toJsonLine(TIME, 'warn', 'authn_login_fail', members);
  assert.is(toTextLine(line, false), '12:13:45.678Z warn  authn_login_fail '
    + 'POST /otp/verify 401 invalid_code duration_ms=3.2 purpose="log in"\n');
  assert.is(toTextLine(toJsonLine(TIME, 'error', 'e', ''), true),
    '\u001b[31m12:13:45.678Z error\u001b[0m e\n');
});

test('no text of a client or an error forges a line or a colour in the text format', () => {
  const error = new Error(`${NASTY}\n12:13:45.678Z info  authn_login_success`);
  const members = member('purpose', NASTY, 600) + describeError(error, true);
  const lines = toTextLine(toJsonLine(TIME, 'error', 'request_failed', members), false).split('\n');
  assert.is(lines.pop(), '');
  assert.ok(lines.every((line) => /^[\x20-\x7e]*$/.test(line)));
  assert.ok(lines.length > 1 && lines.slice(1).every((line) => line.startsWith('    ')));
});

test('an error of any size leaves room for the other members of a line', () => {
  const error = new Error('\u2028'.repeat(9000));
  error.name = 'é'.repeat(9000);
  assert.ok(describeError(error, true).length < 1800);
  assert.not.match(describeError(error, false), /stack/);
  assert.match(describeError('a text', true), /"message":"a text"/);
});

test('a pseudonym is stable under one secret and differs by kind, name and secret', () => {
  const secret = { id: 'k1', key: createSecretKey(randomBytes(32)) };
  const names = createPseudonyms(secret);
  const other = createPseudonyms({ id: 'k1', key: createSecretKey(randomBytes(32)) });
  for (const name of [names.user('U1'), names.clientIp('U1')]) assert.match(name, /^[0-9a-f]{16}$/);
  assert.is(names.user('U1'), names.user('U1'));
  assert.is(names.user('U1'), createPseudonyms(secret).user('U1'));
  const all = [names.user('U1'), names.user('u1'), names.clientIp('U1'), other.user('U1')];
  assert.is(new Set(all).size, all.length);
  for (let at = 0; at < 10_000; at += 1) names.user(`many ${at}`);
  assert.is(names.user('U1'), all[0]);
});

test.run();
