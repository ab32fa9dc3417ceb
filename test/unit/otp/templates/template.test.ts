import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  compileTemplate, createDurationFormatter,
} from '../../../../src/otp/templates/template.ts';
import type { TemplateValues } from '../../../../src/otp/templates/template.ts';

const VALUES: TemplateValues = {
  code: '012345', ref: '9f3a', purpose: 'login', lifetime: '5 minutes', brand: null,
};

function render(text: string, values = VALUES): string {
  const compiled = compileTemplate(text);
  if ('unknown' in compiled) throw new Error(compiled.unknown.join());
  return compiled.template.render(values);
}

test('placeholders are replaced, however often they occur, and nothing else is', () => {
  assert.is(render('{code}, {purpose}: {lifetime} {code}'), '012345, login: 5 minutes 012345');
  assert.is(render('({ref}) {code} [{ref}]'), '(9f3a) 012345 [9f3a]');
  assert.is(render('no place'), 'no place');
  assert.is(render('{code}'), '012345');
  assert.is(render(''), '');
});

test('a placeholder inside a value is not replaced', () => {
  assert.is(render('{purpose} {code}', { ...VALUES, purpose: '{code} $& $1 {x}' }),
    '{code} $& $1 {x} 012345');
});

/** [template, its text with neither value, with a label, with a brand, with both] */
const OPTIONAL: [string, string, string, string, string][] = [
  ['{code}[ for {purpose}].', '012345.', '012345 for login.', '012345.', '012345 for login.'],
  ['[{brand}: ]{code}', '012345', '012345', 'Acme: 012345', 'Acme: 012345'],
  ['{code}[ {purpose} at {brand}]', '012345', '012345', '012345', '012345 login at Acme'],
  ['[{purpose}][{brand}]{code}', '012345', 'login012345', 'Acme012345', 'loginAcme012345'],
  ['[{code}] [x] [] ] [', '[012345] [x] [] ] [', '[012345] [x] [] ] [', '[012345] [x] [] ] [',
    '[012345] [x] [] ] ['],
  ['[a [b {purpose}] c]{code}', '[a  c]012345', '[a b login c]012345', '[a  c]012345',
    '[a b login c]012345'],
];

for (const [text, ...expected] of OPTIONAL) {
  test(`a text in brackets is left out when a value is missing: ${text}`, () => {
    const values = [[null, null], ['login', null], [null, 'Acme'], ['login', 'Acme']] as const;
    const rendered = values.map(([purpose, brand]) => render(text, { ...VALUES, purpose, brand }));
    assert.equal(rendered, expected);
  });
}

test('a placeholder is required when it stands outside brackets', () => {
  const compiled = compileTemplate('{code}[ {purpose} {lifetime}]{brand}');
  if ('unknown' in compiled) throw new Error('unknown');
  const { has, requires } = compiled.template;
  const names = ['code', 'purpose', 'lifetime', 'brand'] as const;
  assert.equal(names.map(has), [true, true, true, true]);
  assert.equal(names.map(requires), [true, false, false, true]);
});

test('unknown names in braces are reported', () => {
  assert.equal(compileTemplate('{Code} {code } {} { code} {code} {toString} {user_id}'),
    { unknown: ['Code', 'code ', '', ' code', 'toString', 'user_id'] });
});

test('the braces of a style sheet and single braces are text', () => {
  for (const text of ['p { color: red }', 'p{margin:0}', 'p {\n}', 'a { b', 'a } b', '{;}']) {
    assert.is(render(text), text);
  }
});

/** [locale, seconds, text] */
const LIFETIMES: [string, number, string][] = [
  ['en', 300, '5 minutes'], ['en', 60, '1 minute'], ['en', 90, '90 seconds'],
  ['en', 600, '10 minutes'], ['en', 61, '61 seconds'],
  ['de', 300, '5 Minuten'], ['de', 60, '1 Minute'], ['de', 90, '90 Sekunden'],
  ['fr', 300, '5 minutes'], ['fr', 90, '90 secondes'],
  ['es', 60, '1 minuto'], ['pt-br', 90, '90 segundos'],
];

for (const [locale, seconds, expected] of LIFETIMES) {
  test(`${seconds} s are formatted in ${locale} as ${expected}`, () => {
    const formatDuration = createDurationFormatter(locale);
    assert.is(formatDuration(seconds), expected);
    assert.is(formatDuration(seconds), expected, 'the second call returns the cached text');
  });
}

test.run();
