import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { findNonGsmCharacter, measureSms } from '../../../../src/otp/templates/template.ts';

test('a character of the basic set costs one septet, one of the extension two', () => {
  const basic = '@£$¥èéùìòÇ\nØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&\'()*+,-./09:;<=>?¡AZÄÖÑÜ§¿azäöñüà';
  assert.equal(measureSms(basic), { length: basic.length, max: 160 });
  assert.equal(measureSms('^{}\\[~]|€'), { length: 18, max: 160 });
});

test('126 characters cost one septet and 9 cost two', () => {
  let ones = 0;
  let twos = 0;
  for (let unit = 0; unit <= 0xffff; unit += 1) {
    const { length, max } = measureSms(String.fromCharCode(unit));
    if (max === 70) assert.is(length, 1);
    else if (length === 1) ones += 1;
    else if (length === 2) twos += 1;
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

test('one character outside GSM-7 makes a text count in units of UCS-2, of which 70 fit', () => {
  assert.equal(measureSms(''), { length: 0, max: 160 });
  assert.equal(measureSms('€€'), { length: 4, max: 160 });
  assert.equal(measureSms('€€ł'), { length: 3, max: 70 });
  assert.equal(measureSms('👍'), { length: 2, max: 70 });
});

test.run();
