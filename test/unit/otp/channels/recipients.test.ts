/** Mail addresses, domain names and phone numbers, and the normal form that limits count by. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import fc from 'fast-check';
import {
  countedRecipient, isAddress, normalizeRecipient, toDomainName, toMailAddress,
} from '../../../../src/otp/channels/recipients.ts';

test('a mail address keeps its local part, and its domain if that is ASCII', () => {
  for (const address of [
    'a@b.example', 'First.Last+tag@sub.example.com', "o'neil@example.com", 'a_b-c@x-y.example',
    `${'l'.repeat(64)}@example.com`, 'x@xn--mnchen-3ya.de', '1@2.example', 'a@EXAMPLE.com',
    `a@${'d.'.repeat(125)}ex`,
  ]) assert.is(toMailAddress(address), address);
});

test('a mail address has its internationalized domain in ASCII', () => {
  const rows: [string, string][] = [
    ['User@münchen.de', 'User@xn--mnchen-3ya.de'], ['user@MÜNCHEN.de', 'user@xn--mnchen-3ya.de'],
    ['user@mu\u0308nchen.de', 'user@xn--mnchen-3ya.de'], ['a@例え.テスト', 'a@xn--r8jz45g.xn--zckzah'],
    ['a@例え。テスト', 'a@xn--r8jz45g.xn--zckzah'], ['a@ｂ.example', 'a@b.example'],
    ['a@straße.example', 'a@xn--strae-oqa.example'],
  ];
  for (const [text, address] of rows) assert.is(toMailAddress(text), address, text);
});

test('anything else is not a mail address', () => {
  for (const text of [
    '', '@', 'a', 'a@', '@b.example', 'a@b', 'a@localhost', 'a@[127.0.0.1]', 'a@127.0.0.1',
    'a@b.example,c@d.example', 'a@b.example;c@d.example', 'A <a@b.example>', '<a@b.example>',
    '"a b"@c.example', '"a"@c.example', 'a b@c.example', ' a@b.example', 'a@b.example ',
    'a@b.example\r\nBcc: c@d.example', 'a@b.example\n', 'a\0@b.example', 'a@b.example\0',
    '.a@b.example', 'a.@b.example', 'a..b@c.example', 'a@b..example', 'a@b.example.',
    'a@@b.example', 'a@b@c.example', 'ä@b.example', 'a(x)@b.example',
    'a@b.example(x)', 'group:a@b.example;', 'a\\@b.example', 'a:b@c.example', 'U1', '+49151123',
    `${'l'.repeat(65)}@example.com`, `a@${'d.'.repeat(125)}exa`,
    'a@münchen', 'a@münchen.de.', 'a@münchen..de', 'a@mün/chen.de', 'a@mün%2echen.de',
    'a@mün_chen.de', 'a@mün chen.de', 'a@münchen.de:25', 'a@münchen.de\r\nBcc: c@d.example',
    'a@１.２.３.４', 'a@１２７.1', `a@${'ü'.repeat(60)}.example`, 'a@b.exampl\ud800',
    'a@b@münchen.de',
  ]) assert.is(toMailAddress(text), null, JSON.stringify(text));
});

test('a domain name has at least two labels of letters, digits and inner hyphens', () => {
  for (const name of [
    'example.com', 'EXAMPLE.com', 'a.b', '1.example.com', 'x-y.example', 'xn--mnchen-3ya.de',
    `${'a'.repeat(63)}.com`, `${'a.'.repeat(126)}a`,
  ]) assert.is(toDomainName(name), name);
  assert.is(toDomainName('münchen.de'), 'xn--mnchen-3ya.de');
});

test('anything else is not a domain name', () => {
  for (const text of [
    '', '.', 'localhost', 'example.com.', '.example.com', 'a..b', '-a.com', 'a-.com', 'a_b.com',
    'münchen', 'example.com:443', 'https://example.com', 'example.com/', '@example.com',
    '192.0.2.1', '::1', 'a b.com', 'example.com\n', 'example.com #1', `${'a'.repeat(64)}.com`,
    `${'a.'.repeat(126)}ab`, 'ü.com/', 'ü?.com', 'ü#.com', 'ü\\.com', 'ü\t.com',
  ]) assert.is(toDomainName(text), null, JSON.stringify(text));
});

/** [spelling, normal form] */
const SPELLINGS: [string, string][] = [
  ['V.ictim+x@GoogleMail.com.', 'victim@gmail.com'],
  ['a@BÜCHER.example', 'a@xn--bcher-kva.example'],
  ['ｖ@ＧＭＡＩＬ.com', 'v@gmail.com'],
  ['v@gmail。com', 'v@gmail.com'], ['v@gmail.com。', 'v@gmail.com'],
  ['v@gma\u00adil.com', 'v@gmail.com'], ['v﹫gmail．com', 'v@gmail.com'],
  ['..v..i.@gmail.com', 'vi@gmail.com'], ['v＋x@example.com', 'v@example.com'],
  ['v+x+y@example.com', 'v@example.com'], ['v+@example.com', 'v@example.com'],
  ['+x@example.com', '+x@example.com'], ['+x+y@EXAMPLE.com', '+x@example.com'],
  ['v.i+x@example.com', 'v.i@example.com'], ['v@XN--MNCHEN-3YA.de', 'v@xn--mnchen-3ya.de'],
  ['JÖRG@example.com', 'jörg@example.com'], ['jo\u0308rg@example.com', 'jörg@example.com'],
  ['H\u0331@example.com', '\u1e96@example.com'],
  ['+490170123', '+49170123'], ['+4900000170123', '+49170123'], ['+1004155550123', '+14155550123'],
  ['+70009161234567', '+79161234567'], ['+4407911123456', '+447911123456'],
  ['+35300871234567', '+353871234567'], ['+10780370123', '+1780370123'],
  ['+390331234567', '+39331234567'],
  [`+44${'0'.repeat(200)}7911123456`, '+447911123456'], ['＋４９０１７０１２３', '+49170123'],
  ['"Victim"@Example.com.', '"victim"@example.com'], ['"A b"@c.example', '"a b"@c.example'],
  ['User@Localhost', 'user@localhost'], ['User@MAIL_1.internal', 'user@mail_1.internal'],
  ['User@[192.0.2.1]', 'user@[192.0.2.1]'],
  ['User+x@[IPv6:2001:DB8::1]', 'user@[ipv6:2001:db8::1]'],
  ['User@192.0.2.1', 'user@192.0.2.1'],
  ['⁺⁴⁹0170123', '+49170123'], ['\u{1d7d8}+@example.com', '0@example.com'],
];

test('every spelling of a recipient has one normal form', () => {
  for (const [spelling, normal] of SPELLINGS) {
    assert.is(normalizeRecipient(spelling), normal, spelling);
    assert.is(countedRecipient(spelling), spelling === normal ? null : normal, spelling);
    assert.is(countedRecipient(normal), null, normal);
  }
});

test('a normal form, and a text that names no recipient, is not counted', () => {
  for (const userId of [
    'v.i@example.com', 'victim@gmail.com', '+49170123', '+1415555', '+12025550100', '+2101234567',
    'U1', '', '+', '@', '+49', '+4900', '+0490170123', '00490170123', '+49 0170123',
    '+49(0)170123',
    '+49017012345678901', 'a+b', 'A@b@c.example', 'A B@c.example',
    'A @c.example', '@EXAMPLE.com', 'ＵＳＥＲ', 'Ü1', '"A"B@c.example', '"A@b"@c.example',
    'A@example.com..', 'A@ü%41.com', 'A@[b c]', 'A@',
  ]) assert.is(countedRecipient(userId), null, JSON.stringify(userId));
});

test('property: a normal form is its own normal form', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 20 }),
    fc.tuple(fc.string({ unit: 'binary' }), fc.constantFrom(
      'GMAIL.com', 'gmail.com', 'googlemail.com', 'ÜÖ.example.', 'x.y', 'x.y.'))
      .map(([local, domain]) => `${local}@${domain}`),
    fc.string({ unit: fc.constantFrom(...'+0123456789') }).map((digits) => `+${digits}`),
  );
  fc.assert(fc.property(text, (one) => {
    const normal = normalizeRecipient(one);
    assert.is(countedRecipient(one), normal === one ? null : normal);
    if (normal !== null) assert.is(normalizeRecipient(normal), normal);
  }), { numRuns: 5000 });
});

test('an address is one phone number or one mail address, and has a normal form', () => {
  for (const text of [
    '+14155550123', '+4900000017', '+1000000', 'Person@Example.com', 'a+b@xn--bcher-kva.example',
    'person@münchen.de', 'x.x.x@gmail.com',
  ]) {
    assert.ok(isAddress(text), text);
    assert.type(normalizeRecipient(text), 'string', text);
  }
  for (const text of [
    '', 'U1', '14155550123', '+1 4155550123', '+123', '+0415555012', 'a@b',
    'a@b.example,c@d.example',
    'A <a@b.example>', 'a@b.example\r\nBcc: c@d.example', '+14155550123\n', '＋14155550123',
  ]) assert.not.ok(isAddress(text), JSON.stringify(text));
});

test.run();
