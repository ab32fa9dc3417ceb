import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isDomainName } from '../../../../src/otp/channels/email-settings.ts';

test('a domain name has two labels or more, of letters, digits and hyphens inside', () => {
  for (const name of [
    'example.com', 'EXAMPLE.com', 'a.b', '1.example.com', 'x-y.example', 'xn--mnchen-3ya.de',
    `${'a'.repeat(63)}.com`, `${'a.'.repeat(126)}a`,
  ]) assert.ok(isDomainName(name), name);
});

test('anything else is none', () => {
  for (const text of [
    '', '.', 'localhost', 'example.com.', '.example.com', 'a..b', '-a.com', 'a-.com', 'a_b.com',
    'münchen.de', 'example.com:443', 'https://example.com', 'example.com/', '@example.com',
    '192.0.2.1', '::1', 'a b.com', 'example.com\n', 'example.com #1', `${'a'.repeat(64)}.com`,
    `${'a.'.repeat(126)}ab`,
  ]) assert.not.ok(isDomainName(text), JSON.stringify(text));
});

test.run();
