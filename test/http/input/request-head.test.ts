/** The Idempotency-Key header: its two forms, and values that are neither. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import fc from 'fast-check';
import {
  parseIdempotencyKey, requireIdempotencyKey,
} from '../../../src/http/input/request-head.ts';

const printable = fc.string({
  unit: fc.integer({ min: 0x20, max: 0x7e }).map((unit) => String.fromCharCode(unit)),
  minLength: 1,
  maxLength: 255,
});

function quoted(key: string): string {
  return `"${key.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

test('property: the quoted and the bare form of a key are one key', () => {
  fc.assert(fc.property(printable, (key) => {
    assert.is(parseIdempotencyKey([quoted(key)]), key);
    assert.is(parseIdempotencyKey([`${quoted(key)}; a=1;b="x";c;*d=:AA==:;e=?1;f=-1.5`]), key);
    if (!key.startsWith('"')) assert.is(parseIdempotencyKey([key]), key);
  }));
});

test('a key is accepted bare or as a quoted string, and in no other form', () => {
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

/** Quadratic time would take seconds. CPU time does not depend on what else the machine does. */
const CPU_MAX_MICROSECONDS = 100_000;

test('a long hostile parameter list is read in linear time', () => {
  const hostile = `"a"${';a=1'.repeat(4000)}!`;
  const start = process.cpuUsage();
  assert.is(typeof parseIdempotencyKey([hostile]), 'object');
  assert.ok(process.cpuUsage(start).user < CPU_MAX_MICROSECONDS);
});

test.run();
