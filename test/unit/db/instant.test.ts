import * as fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  addSeconds, formatInstant, formatNullableInstant, parseInstant, parseNullableInstant,
  secondsUntil,
} from '../../../src/db/instant.ts';

test('DATETIME(6) text is parsed and formatted to the microsecond', () => {
  assert.is(parseInstant('1970-01-01 00:00:00.000001'), 1);
  assert.is(parseInstant('2026-01-05 08:00:00'), Date.UTC(2026, 0, 5, 8) * 1000);
  assert.is(formatInstant(1), '1970-01-01 00:00:00.000001');
  assert.is(parseInstant('2026-01-05 08:00:00.5'), parseInstant('2026-01-05 08:00:00.500000'));
  assert.is(parseNullableInstant(null), null);
  assert.is(formatNullableInstant(null), null);
});

test('a formatted instant parses to itself', () => {
  const instants = fc.integer({ min: 0, max: 9_000_000_000_000_000 });
  fc.assert(fc.property(instants, (instant) => parseInstant(formatInstant(instant)) === instant));
});

test('secondsUntil rounds up to whole seconds', () => {
  assert.is(secondsUntil(0, 1), 1);
  assert.is(secondsUntil(0, 1_000_000), 1);
  assert.is(secondsUntil(0, 1_000_001), 2);
  assert.is(addSeconds(5, 2), 2_000_005);
});

test.run();
