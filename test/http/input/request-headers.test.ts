/** The Idempotency-Key: its two forms, and what is neither. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import fc from 'fast-check';
import {
  parseIdempotencyKey, requireIdempotencyKey,
} from '../../../src/http/input/request-headers.ts';

const printable = fc.string({
  unit: fc.integer({ min: 0x20, max: 0x7e }).map((unit) => String.fromCharCode(unit)),
  minLength: 1,
  maxLength: 255,
});

function quoted(key: string): string {
  return `"${key.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

test('property: quoted and bare forms of a key are one key', () => {
  fc.assert(fc.property(printable, (key) => {
    assert.is(parseIdempotencyKey([quoted(key)]), key);
    assert.is(parseIdempotencyKey([`${quoted(key)}; a=1;b="x";c;*d=:AA==:;e=?1;f=-1.5`]), key);
    if (!key.startsWith('"')) assert.is(parseIdempotencyKey([key]), key);
  }));
});

test('forms of keys', () => {
  const good: [string, string][] = [
    ['a', 'a'], ['8e03978e-40d5-43e8-bc93-6894a57f9324', '8e03978e-40d5-43e8-bc93-6894a57f9324'],
    ['a"b', 'a"b'], ['a;b=c', 'a;b=c'], ['a, b', 'a, b'], ['\\', '\\'], ['" "', ' '],
    ['"\\""', '"'], ['"\\\\"', '\\'], [`"${'\\"'.repeat(255)}"`, '"'.repeat(255)],
    ['a'.repeat(255), 'a'.repeat(255)],
  ];
  for (const [value, key] of good) assert.is(parseIdempotencyKey([value]), key, value);
  const bad = ['', '""', '"', '"a', '"a\\', '"a\\"', '"\\a"', '"a" ;b', '"a"b', '"a", "b"',
    '"a";', '"a";A=1', '"a";a=', '"a";a=b c', '"a";a="', '"é"', 'é', 'a\u007f', '"a\tb"',
    'a'.repeat(256), `"${'a'.repeat(256)}"`];
  for (const value of bad) {
    const error = parseIdempotencyKey([value]);
    assert.is(typeof error === 'object' && error?.field, 'Idempotency-Key', value);
  }
  assert.is(parseIdempotencyKey([]), null);
  assert.is(typeof requireIdempotencyKey([]), 'object');
  assert.is(typeof parseIdempotencyKey(['a', 'a']), 'object');
});

test('a long hostile parameter list is read in linear time', () => {
  const hostile = `"a"${';a=1'.repeat(4000)}!`;
  const started = process.hrtime.bigint();
  assert.is(typeof parseIdempotencyKey([hostile]), 'object');
  assert.ok(process.hrtime.bigint() - started < 100_000_000n);
});

test.run();
