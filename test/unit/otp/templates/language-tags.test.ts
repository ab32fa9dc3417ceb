import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as fc from 'fast-check';
import {
  fallbackTags, isLanguageTag, isWellFormedTag, parseAcceptLanguage,
} from '../../../../src/otp/templates/language-tags.ts';

test('the fallbacks of a tag are its prefixes', () => {
  assert.equal(fallbackTags(''), []);
  assert.equal(fallbackTags('de'), ['de']);
  assert.equal(fallbackTags('zh-hant-tw'), ['zh-hant-tw', 'zh-hant', 'zh']);
});

test('a language tag names a language that Node.js knows', () => {
  for (const tag of ['de', 'pt-br', 'pt-BR', 'zh-hant-tw', 'fil']) {
    assert.ok(isLanguageTag(tag), tag);
  }
  for (const text of [
    '', 'd', 'email', 'subject', 'txt', 'old', 'de-', 'de_at', 'de--at', '-', '*', 'de\n',
    `de-${'abcdefgh-'.repeat(4)}x`,
  ]) assert.not.ok(isLanguageTag(text), JSON.stringify(text));
});

/** [field, the ranges in order of preference] (RFC 9110, 12.5.4 and 12.4.2). */
const FIELDS: [string, string[]][] = [
  ['', []],
  ['de', ['de']],
  ['da, en-GB;q=0.8, en;q=0.7', ['da', 'en-gb', 'en']],
  ['en;q=0.3,de;q=0.9 , fr', ['fr', 'de', 'en']],
  ['en;q=0.5, de;q=0.5, fr;q=0.5', ['en', 'de', 'fr']],
  ['*', ['*']],
  ['*;q=0.1, DE-at', ['de-at', '*']],
  ['de;q=0, de;q=0.000, fr;q=0.001', ['fr']],
  ['de ; q=1.000\t,\tfr ;\tQ=0.9', ['de', 'fr']],
  ['de;q=1.5, fr;q=2, es;q=0.1234, it;q=-1, nl;q=, pl;q=a, sv;x=1, fi;q=.5, el', ['el']],
  ['de;q=1.001', []],
  [',,, ,de,', ['de']],
  ['d€, de fr, "de", verylonglanguage, de-, -de, de-*, fr', ['fr']],
  ['\u0000, \ud800, de', ['de']],
];

for (const [field, wanted] of FIELDS) {
  test(`Accept-Language is parsed: ${JSON.stringify(field)}`, () => {
    assert.equal(parseAcceptLanguage(field), wanted);
  });
}

test('the field is read up to 256 characters, without the item that crosses the bound', () => {
  const filler = 'xx,'.repeat(84);
  assert.is(filler.length, 252);
  assert.is(parseAcceptLanguage(`${filler}de-a`).at(-1), 'de-a');
  assert.is(parseAcceptLanguage(`${filler}de-at`).at(-1), 'xx');
  assert.is(parseAcceptLanguage(`${filler}de,fr`).at(-1), 'de');
  assert.equal(parseAcceptLanguage('a'.repeat(1_000_000)), []);
});

test('property: any field gives valid ranges only', () => {
  const piece = fc.oneof(fc.string({ unit: 'binary' }),
    fc.constantFrom('de', '-', ';q=', '0.', ',', ' ', '*', '\t', ';', '9'));
  fc.assert(fc.property(fc.array(piece, { maxLength: 200 }), (pieces) => {
    for (const range of parseAcceptLanguage(pieces.join(''))) {
      assert.match(range, /^(\*|[a-z]{1,8}(-[a-z0-9]{1,8})*)$/);
    }
  }));
});

test('a well-formed tag follows the syntax, whether or not a language has the name', () => {
  for (const tag of [
    'de', 'DE', 'pt-BR', 'zh-Hant-TW', 'es-419', 'tlh', 'zh-cmn-Hans-CN', 'sl-rozaj-biske-1994',
    'de-CH-1996', 'en-US-u-islamcal', 'en-a-myext-b-another', 'de-x-phonebk', 'x-whatever',
    'i-klingon', 'en-GB-oed', 'sgn-BE-FR', 'art-lojban', 'zh-min-nan', 'abcde', 'xx',
  ]) assert.ok(isWellFormedTag(tag), tag);
  for (const text of [
    '', 'd', 'de_DE', 'de-', '-de', 'de--at', '*', 'de-*', 'de,en', 'de;q=1', ' de', 'de\n',
    'abcdefghi', 'de-abcdefghi', 'en-a', 'x', 'x-', 'a-DE', 'de-419-DE', 'i-other', 'dé', 'ｄｅ',
  ]) assert.not.ok(isWellFormedTag(text), JSON.stringify(text));
  assert.not.ok(isWellFormedTag(`${'abcde-'.repeat(500_000)}_`));
});

test.run();
