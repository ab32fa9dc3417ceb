import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  countSeptets, cutToSeptets, findNonGsmCharacter, toGsmLine,
} from '../../../../src/otp/templates/sms-text.ts';

test('a character of the basic set costs one septet, one of the extension two', () => {
  const basic = '@£$¥èéùìòÇ\nØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&\'()*+,-./09:;<=>?¡AZÄÖÑÜ§¿azäöñüà';
  assert.is(countSeptets(basic), basic.length);
  assert.is(countSeptets('^{}\\[~]|€'), 18);
});

test('126 characters cost one septet and 9 cost two', () => {
  let ones = 0;
  let twos = 0;
  for (let unit = 0; unit <= 0xffff; unit += 1) {
    const septets = countSeptets(String.fromCharCode(unit));
    if (septets === 1) ones += 1;
    else if (septets === 2) twos += 1;
  }
  assert.is(ones, 126);
  assert.is(twos, 9);
});

test('characters outside GSM-7 are found, also lookalikes and surrogate pairs', () => {
  assert.is(findNonGsmCharacter('Code für é'), null);
  for (const [text, nonGsm] of [
    ['código', 'ó'], ['l’autre', '’'], ['a`b', '`'], ['ç', 'ç'], ['a\tb', '\t'], ['\r\n', '\r'],
    ['ok 👍', '👍'], ['\u001b', '\u001b'], ['\f', '\f'], ['\u00a0', '\u00a0'],
  ] as const) assert.is(findNonGsmCharacter(text), nonGsm);
});

test('characters outside GSM-7 and line feeds become question marks', () => {
  assert.is(toGsmLine('login {x}'), 'login {x}');
  assert.is(toGsmLine('código 👍'), 'c?digo ?');
  assert.is(toGsmLine('a\n@evil.example #1'), 'a?@evil.example #1');
});

test('a text is cut before the first character that does not fit', () => {
  assert.is(cutToSeptets('abc', 3), 'abc');
  assert.is(cutToSeptets('abc', 2.9), 'ab');
  assert.is(cutToSeptets('a€b', 2), 'a');
  assert.is(cutToSeptets('a€b', 3), 'a€');
  assert.is(cutToSeptets('abc', 0), '');
  assert.is(cutToSeptets('abc', -4), '');
});

test.run();
