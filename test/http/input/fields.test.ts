/** The readers of keys and bodies against slow, obvious ones. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import fc from 'fast-check';
import { parseIdempotencyKey, requireIdempotencyKey } from '../../../src/http/input/fields.ts';
import { parseJsonObject } from '../../../src/http/input/json-body.ts';
import { pathOf } from '../../../src/http/router.ts';

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
    const fault = parseIdempotencyKey([value]);
    assert.is(typeof fault === 'object' && fault?.field, 'Idempotency-Key', value);
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

/** Characters that a scanner of strings may trip over, and others. */
const tricky = fc.oneof(
  fc.constantFrom('"', '\\', '{', '}', '[', ']', ':', ',', ' ', '\n', '\ud83d\ude00'),
  fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
);

/** The members of a flat object as text, in order and with repetitions. */
const members = fc.array(
  fc.tuple(fc.constantFrom('user_id', 'purpose', 'code'), fc.string({ unit: tricky })),
  { maxLength: 6 },
);

test('property: a repeated member is found, whatever the strings hold', () => {
  fc.assert(fc.property(members, fc.boolean(), (pairs, escaped) => {
    const literal = (text: string): string => (escaped
      ? `"${[...text].map(escapeOf).join('')}"` : JSON.stringify(text));
    const text = `{ ${pairs.map(([k, v]) => `${literal(k)} : ${literal(v)}`).join(' , ')} }`;
    const result = parseJsonObject(Buffer.from(text), ['user_id', 'purpose', 'code']);
    const seen = new Set<string>();
    const repeated = pairs.find(([name]) => seen.size === seen.add(name).size);
    if (repeated === undefined) {
      assert.ok('members' in result, text);
      assert.equal({ ...result.members }, Object.fromEntries(pairs));
    } else assert.equal(result, { field: repeated[0], message: 'must occur once' });
  }), { numRuns: 500 });
});

/** Every unit as \uXXXX. */
function escapeOf(char: string): string {
  const units = Array.from({ length: char.length }, (_, at) => char.charCodeAt(at));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
}

test('property: any bytes are an object or a fault, never an exception', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    const result = parseJsonObject(Buffer.from(bytes), ['a']);
    assert.ok('members' in result || 'field' in result);
  }));
  fc.assert(fc.property(fc.json(), (text) => {
    const result = parseJsonObject(Buffer.from(text), ['a']);
    assert.ok('members' in result || 'field' in result);
  }));
});

test('property: a target that is not a route letter for letter is not that route', () => {
  fc.assert(fc.property(fc.string(), (text) => {
    const path = pathOf(`/otp/request${text}`);
    assert.is(path === '/otp/request', text === '' || text.startsWith('?'));
    assert.is(pathOf(`http://h/otp/request${text}`), path);
  }));
});

test.run();
