/** The shipped templates, an operator's own, and the errors that stop the start. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CHANNEL_NAMES } from '../../../../src/otp/channels/channel.ts';
import type { Message, Templates } from '../../../../src/otp/channels/channel.ts';
import { parsePolicies } from '../../../../src/otp/policy/policy-file.ts';
import { createPolicies, LivePolicies } from '../../../../src/otp/policy/policy.ts';
import type { Policies } from '../../../../src/otp/policy/policy.ts';
import { loadTemplates } from '../../../../src/otp/templates/load.ts';
import { findNonGsmCharacter, measureSms } from '../../../../src/otp/templates/template.ts';

const MESSAGE: Message = {
  otpId: 'ab'.repeat(16), userId: 'U1', purpose: 'login', code: '012345', lifetimeSeconds: 300,
  expiresAt: 0, locale: '',
};
const NONE = { folder: null, domain: null, channels: ['sms'] } as const;
const SHIPPED_LOCALES = ['', 'de', 'fr', 'es', 'pt', 'it', 'nl', 'pl', 'ja'];

/** Those with texts in the alphabet of GSM-7. */
const GSM_LOCALES = SHIPPED_LOCALES.filter((locale) => locale !== 'ja');

const root = mkdtempSync(join(tmpdir(), 'otpd-templates-'));
let folders = 0;

/** Creates a template folder with these files. */
function folderOf(files: Record<string, string | Buffer>): string {
  folders += 1;
  const folder = join(root, String(folders));
  mkdirSync(folder);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return folder;
}

type Settings = Partial<Parameters<typeof loadTemplates>[0]> & Readonly<{ policies?: Policies }>;

function policiesOf(file: object): Policies {
  const parsed = parsePolicies(JSON.stringify(file));
  if ('errors' in parsed) throw new Error(parsed.errors.join('\n'));
  return parsed.policies;
}

/** The errors at the start. */
function findErrors({ policies = createPolicies(), ...settings }: Settings): string[] {
  const loaded = loadTemplates({ ...NONE, ...settings });
  return 'errors' in loaded ? loaded.errors : loaded.templates.validate(policies);
}

function templatesOf(given: Settings): Templates {
  const errors = findErrors(given);
  const { policies = createPolicies(), ...settings } = given;
  const loaded = loadTemplates({ ...NONE, ...settings });
  if ('errors' in loaded || errors.length > 0) throw new Error(errors.join('\n'));
  return loaded.templates.withLabels(policies);
}

/** The errors of these files, without the path of their folder. */
function errorsOf(files: Record<string, string | Buffer>, settings: Settings = {}): string[] {
  const folder = folderOf(files);
  return findErrors({ folder, ...settings }).map((error) => error.replaceAll(`${folder}/`, ''));
}

test('the shipped text contains the code and the lifetime', () => {
  const templates = templatesOf({});
  assert.is(templates.text(MESSAGE),
    '012345 is your code. It works for 5 minutes. Never share it with anyone.');
  assert.match(templates.text({ ...MESSAGE, lifetimeSeconds: 60 }), /for 1 minute\./);
  assert.match(templates.text({ ...MESSAGE, lifetimeSeconds: 90 }), /for 90 seconds\./);
});

test('every part is shipped in nine languages', () => {
  const labels = { en: 'sign-in', de: 'die Anmeldung', fr: 'la connexion', es: 'el acceso',
    pt: 'o acesso', it: "l'accesso", nl: 'aanmelding', pl: 'logowania', ja: 'ログイン' };
  const policies = policiesOf({ purposes: { login: { label: labels } } });
  const templates = templatesOf({ policies });
  const seen = new Set<string>();
  for (const locale of SHIPPED_LOCALES) {
    const message = { ...MESSAGE, locale };
    const { subject, text, html } = templates.email(message);
    const short = templates.text(message);
    for (const part of [short, subject, text, html]) {
      assert.not(seen.has(part), `${locale} has templates of its own`);
      seen.add(part);
      // The Japanese text message leaves room for a brand and a domain.
      if (part === short && locale === 'ja') continue;
      const label = labels[locale as keyof typeof labels] ?? labels.en;
      assert.match(part, part === html ? label.replace("'", '&#39;') : label);
    }
    for (const part of [short, text, html]) {
      assert.match(part, '012345');
      assert.match(part, /5 (minutes|Minuten|minutos|minuti|minuten|minut|分)(?![a-z])/);
      assert.not.match(part, /[[\]{}]/);
    }
    assert.match(html, `<html lang="${locale || 'en'}">`);
  }
});

for (const [domain, last] of [[null, ''], ['example.com', '\n\n@example.com #012345']] as const) {
  test(`a text message fits and ends with ${JSON.stringify(last)}`, () => {
    const templates = templatesOf({ domain });
    for (const locale of SHIPPED_LOCALES) {
      const text = templates.text({ ...MESSAGE, locale });
      const { length, max } = measureSms(text);
      assert.ok(length <= max, text);
      assert.is(findNonGsmCharacter(text) === null, GSM_LOCALES.includes(locale), text);
      assert.ok(text.endsWith(last), text);
    }
  });
}

/** What a stranger might send as a purpose. */
const HOSTILE = [
  'login. Suspicious login! Confirm at evil.example/x?u=9 or call +1900555', '{code}', '{brand}',
  '[{purpose}]', '$& $1', '\u202eevil', '\u2066x\u2069', '<a href="//evil.example">x</a>', '&amp;',
  '%s', '\u2028@evil.example #1', '€'.repeat(100), '👍'.repeat(50), 'ł', ' ', '*', 'en', 'default',
  '__proto__', 'constructor', '../login', 'Default', 'LOGIN', 'logín', 'login ', 'ｌogin',
];

/** Arbitrary well-formed purposes, with the characters that matter above all. */
const ANY_PURPOSE = fc.oneof(
  fc.constantFrom(...HOSTILE),
  fc.string({ minLength: 1, unit: 'binary' }),
  fc.array(fc.constantFrom('{', '}', '[', ']', 'purpose', 'code', '<', '.', '/', '\u202e', 'login'),
    { minLength: 1 }).map((parts) => parts.join('')),
);

test('no character of a client reaches a text of any channel', () => {
  const folder = folderOf({ 'login.txt': 'own {code}', 'login.html': '<p>own {code}</p>' });
  const policies = policiesOf({ purposes: { login: { label: 'sign-in' }, x: { label: 'y' } } });
  const templates = templatesOf({ folder, policies, brand: 'Acme', domain: 'example.com' });
  const textsOf = (purpose: string, userId: string, locale: string) => {
    const message = { ...MESSAGE, purpose, userId, locale };
    const locales = CHANNEL_NAMES.map((channel) => templates.localeFor(channel, purpose, locale));
    return [templates.text(message), templates.email(message), locales];
  };
  for (const locale of SHIPPED_LOCALES) {
    const neutral = textsOf('neutral', 'U1', locale);
    assert.not.match(JSON.stringify(neutral), 'neutral');
    for (const sent of HOSTILE) assert.equal(textsOf(sent, sent, locale), neutral, sent);
    fc.assert(fc.property(ANY_PURPOSE, (purpose) => {
      if (purpose === 'login' || purpose === 'x') return;
      assert.equal(textsOf(purpose, purpose, locale), neutral);
    }));
  }
});

test('a purpose is called what its label says, in the language of the text', () => {
  const policies = policiesOf({
    default: { label: { de: 'Ihr Konto' } },
    purposes: {
      login: { label: 'sign-in' }, pay: { label: { 'en': 'a payment', 'pt': 'x' } },
      none: { label: null }, other: {},
    },
  });
  const folder = folderOf({ 'default.pt-BR.txt': '{code}[ {purpose}]' });
  const templates = templatesOf({ policies, folder });
  const textOf = (purpose: string, locale: string) =>
    /^012345(?: is your code| ist Ihr Code)?([^.]*)/.exec(
      templates.text({ ...MESSAGE, purpose, locale }))?.[1];
  const seen = ['login', 'pay', 'none', 'other', 'unknown'].map((purpose) =>
    ['', 'de', 'pt-br'].map((locale) => textOf(purpose, locale)));
  assert.equal(seen, [
    [' for sign-in', ' für sign-in', ' sign-in'],
    [' for a payment', '', ' x'],
    ['', '', ''],
    ['', ' für Ihr Konto', ''],
    ['', ' für Ihr Konto', ''],
  ]);
});

test('labels follow a change of the policies', () => {
  const policies = new LivePolicies(createPolicies());
  const templates = templatesOf({ policies });
  assert.match(templates.text(MESSAGE), 'is your code.');
  policies.replace(policiesOf({ default: { label: 'sign-in' } }));
  assert.match(templates.text(MESSAGE), 'is your code for sign-in.');
});

test('a label and a brand are escaped in HTML and nowhere else', () => {
  const policies = policiesOf({ default: { label: `<b>&'"ó👍` } });
  const templates = templatesOf({ policies, brand: '<Acme>', channels: ['email'] });
  const { subject, text, html } = templates.email(MESSAGE);
  assert.is(subject, `<Acme>: Your code for <b>&'"ó👍`);
  assert.match(text, `Your code for <b>&'"ó👍:\n`);
  assert.match(html, 'Your code for &lt;b&gt;&amp;&#39;&quot;ó👍:');
});

test('MESSAGES_BRAND stands in the shipped texts and in {brand}', () => {
  const folder = folderOf({ 'own.txt': '{code} {brand}' });
  const templates = templatesOf({ brand: 'Acme', folder });
  assert.is(templates.text(MESSAGE),
    'Acme: 012345 is your code. It works for 5 minutes. Never share it with anyone.');
  assert.is(templates.text({ ...MESSAGE, purpose: 'own' }), '012345 Acme');
  assert.is(templates.email(MESSAGE).subject, 'Acme: Your code');
  const rule = 'contains {brand}, so MESSAGES_BRAND must be set, or the text must stand in'
    + ' brackets: [{brand}: ]';
  for (const part of ['txt', 'html', 'subject.txt', 'email.txt']) {
    assert.equal(errorsOf({ [`own.${part}`]: '{code} {brand}' }), [`own.${part} ${rule}`]);
  }
  for (const brand of ['a\nb', 'x'.repeat(61), '\ud800']) {
    assert.equal(findErrors({ brand }),
      ['MESSAGES_BRAND must be a string of 1 to 60 characters without control characters']);
  }
});

test('{purpose} outside brackets needs a label for every purpose that the file is for', () => {
  const files = { 'default.txt': '{code} {purpose}', 'login.de.txt': '{code} {purpose}' };
  const rule = 'set one in POLICY_FILE, or write [ for {purpose}], which is left out without a'
    + ' label';
  assert.equal(errorsOf(files), [
    'default.txt contains {purpose} outside brackets, but purposes may have no label in en: '
      + rule,
    'login.de.txt contains {purpose} outside brackets, but the purpose login has no label in de: '
      + rule,
    'default.txt contains {purpose} outside brackets, but the purpose login has no label in en: '
      + rule,
  ]);
  assert.equal(errorsOf(files, { policies: policiesOf({ default: { label: 'x' } }) }), []);
  const listed = (purposes: object) => policiesOf({ allowed_purposes: ['login', 'pay'], purposes });
  const both = listed({ login: { label: 'x' }, pay: { label: 'y' } });
  assert.equal(errorsOf(files, { policies: both }), []);
  assert.equal(errorsOf(files, { policies: listed({ login: { label: 'x' } }) }), [
    'default.txt contains {purpose} outside brackets, but the purpose pay has no label in en: '
      + rule,
  ]);
});

test('the blank line before the last line is dropped when it does not fit', () => {
  for (const [length, feeds] of [[137, '\n\n'], [138, '\n']] as const) {
    const folder = folderOf({ 'default.txt': `{code}${'x'.repeat(length)}` });
    const templates = templatesOf({ folder, domain: 'ex.com', channels: ['webhook'] });
    const text = templates.text(MESSAGE);
    assert.is(text.length, 160);
    assert.ok(text.endsWith(`x${feeds}@ex.com #012345`), text);
  }
});

test('the last line names an internationalized domain in ASCII, as browsers do', () => {
  const templates = templatesOf({ domain: 'münchen.de' });
  assert.ok(templates.text(MESSAGE).endsWith('@xn--mnchen-3ya.de #012345'));
});

test('an own file replaces the shipped file of the same name and no other', () => {
  const folder = folderOf({
    'default.txt': 'Acme: {code}\r\n', 'default.de.txt': '\ufeff{code}!\n\n',
  });
  const templates = templatesOf({ folder });
  assert.is(templates.text(MESSAGE), 'Acme: 012345');
  assert.is(templates.text({ ...MESSAGE, locale: 'de' }), '012345!');
  assert.match(templates.text({ ...MESSAGE, locale: 'fr' }), 'votre code');
  assert.is(templates.email(MESSAGE).subject, 'Your code');
});

test('a message uses the first of six files that exists', () => {
  const order = [
    'login.sv-FI.txt', 'login.sv.txt', 'default.sv-fi.txt', 'default.sv.txt', 'login.txt',
    'default.txt',
  ];
  for (let first = 0; first < order.length; first += 1) {
    const names = order.slice(first);
    const folder = folderOf(Object.fromEntries(names.map((name) => [name, `{code} ${name}`])));
    assert.is(templatesOf({ folder }).text({ ...MESSAGE, locale: 'sv-fi' }), `012345 ${names[0]}`);
  }
});

test('a purpose whose name looks like a file uses the default template', () => {
  const templates = templatesOf({ folder: folderOf({ 'default.txt': '{code} default' }) });
  for (const purpose of ['../login', 'default.de', 'default/de', '__proto__', 'constructor', 'é']) {
    assert.is(templates.text({ ...MESSAGE, purpose }), '012345 default');
  }
});

test('a purpose may be named __proto__', () => {
  const templates = templatesOf({ folder: folderOf({ '__proto__.txt': '{code} own' }) });
  assert.is(templates.text({ ...MESSAGE, purpose: '__proto__' }), '012345 own');
  assert.match(templates.text(MESSAGE), 'is your code.');
});

test('MESSAGES_LANGUAGE changes the default language of shipped and own templates', () => {
  const german = templatesOf({ language: 'de' });
  assert.match(german.text(MESSAGE), 'Er gilt 5 Minuten.');
  assert.match(german.text({ ...MESSAGE, locale: 'en' }), 'for 5 minutes');
  assert.is(german.localeFor('sms', 'login', 'de-AT, en'), '');
  assert.is(german.localeFor('sms', 'login', 'en, de'), 'en');
  const folder = folderOf({ 'default.txt': '{code} {lifetime}', 'login.txt': '{code} own' });
  const own = templatesOf({ folder, language: 'sv-FI' });
  assert.is(own.text({ ...MESSAGE, purpose: 'x', lifetimeSeconds: 90 }), '012345 90 sekunder');
  assert.is(own.text(MESSAGE), '012345 own');
  assert.is(own.localeFor('sms', 'login', 'sv'), '');
  assert.is(own.localeFor('sms', 'login', 'en'), 'en');
  assert.match(own.email(MESSAGE).subject, 'Your code', 'English where there is nothing else');
});

/** [Accept-Language, the locale for login, the locale for another purpose] */
const WANTED: [string, string, string][] = [
  ['', '', ''],
  ['de', 'de', 'de'],
  ['de-AT', 'de', 'de'],
  ['DE-at-1996', 'de', 'de'],
  ['en, de', '', ''],
  ['en-US,en;q=0.9,de;q=0.5', '', ''],
  ['en;q=0.1, fr', 'fr', 'fr'],
  ['*, de', '', ''],
  ['*;q=0.5, de', 'de', 'de'],
  ['it, nl-BE, es;q=0.5', 'it', 'it'],
  ['da, nb-NO, es;q=0.5', 'da', 'es'],
  ['pt-PT, fr', 'pt', 'pt'],
  ['pt-BR, fr', 'pt-br', 'pt'],
  ['sv-SE, fr', 'fr', 'fr'],
  ['sv-FI, fr', 'sv-fi', 'fr'],
  ['de;q=0', '', ''],
  ['xx, \u0000, -, ;q=1', '', ''],
  ['en-GB', 'en-gb', ''],
];

test('the locale is the first accepted language that has a text for the purpose', () => {
  const text = '{code}';
  const folder = folderOf({ 'login.da.txt': text, 'login.pt-BR.txt': text, 'login.en-GB.txt': text,
    'login.sv-FI.txt': text, 'default.nb.subject.txt': 'x' });
  const { localeFor } = templatesOf({ folder });
  for (const [field, ofLogin, ofOther] of WANTED) {
    assert.is(localeFor('sms', 'login', field), ofLogin, field);
    assert.is(localeFor('sms', 'other', field), ofOther, field);
  }
});

/** [file, text, the error] */
const INVALID: [string, string | Buffer, string][] = [
  ['default.txt', 'no code', 'default.txt must contain {code}'],
  ['x.email.txt', 'no code', 'x.email.txt must contain {code}'],
  ['x.html', '<p>no code</p>', 'x.html must contain {code}'],
  ['x.txt', '', 'x.txt must contain {code}'],
  ['x.txt', '[{code} for {purpose}]', 'x.txt must contain {code} outside brackets'],
  ['x.subject.txt', '[{purpose}]', 'x.subject.txt must be one line of 1 to 150 characters'],
  ['x.txt', '{code} {user}',
    'x.txt may contain only {code}, {purpose}, {brand}, {lifetime} and {ref}, not {user}'],
  ['x.html', '<p>{CODE}{code}',
    'x.html may contain only {code}, {purpose}, {brand}, {lifetime} and {ref}, not {CODE}'],
  ['x.subject.txt', '', 'x.subject.txt must be one line of 1 to 150 characters'],
  ['x.subject.txt', 'a\nb', 'x.subject.txt must be one line of 1 to 150 characters'],
  ['x.subject.txt', 's'.repeat(151), 'x.subject.txt must be one line of 1 to 150 characters'],
  ['x.subject.txt', 'a\u0000b', 'x.subject.txt must not contain control characters'],
  ['x.subject.txt', 'a\rb', 'x.subject.txt must not contain control characters'],
  ['x.email.txt', '{code}\u001b[2J', 'x.email.txt must not contain control characters'],
  ['x.html', '{code}\u0085', 'x.html must not contain control characters'],
  ['x.txt', Buffer.from([0x7b, 0xff]), 'x.txt must be UTF-8'],
  ['x.html', `{code}${' '.repeat(65_531)}`,
    'x.html must be a readable file of at most 64 KiB'],
];

for (const [name, text, error] of INVALID) {
  test(`an invalid template is an error: ${error}`, () => {
    assert.equal(errorsOf({ [name]: text }), [error]);
  });
}

/** Markup that links, loads or runs something. */
const NOT_IN_HTML = [
  '<a>', '<A\nname=x>', '<area/>', '<img>', '<script>', '<link>', '<iframe>', '<form>', '<svg>',
  '<video>', '<object>', '<base>', '< script', '<p href = x>', '<p SRC="x">', '<td background=x>',
  '<p style="background: url (x)">', '<p onclick=x>', '<style>@import "x"</style>', '//example.com',
  'http:', 'HTTPS:', 'mailto:', 'javascript:', '<meta x http-equiv=refresh>',
];

for (const html of NOT_IN_HTML) {
  test(`an HTML part must not contain ${JSON.stringify(html)}`, () => {
    const errors = errorsOf({ 'x.html': `<p>{code}</p>${html}` });
    assert.ok(errors.length > 0);
    for (const error of errors) {
      assert.match(error, /^x\.html must not contain links, scripts or external resources: ./);
    }
  });
}

test('similar but harmless HTML is accepted', () => {
  assert.equal(errorsOf({
    'x.html': '<!doctype html><article><abbr>{code}</abbr></article><b>Data: on, source</b>'
      + '<style>p { background: red } @media print { p { margin: 0 } }</style><address>x</address>',
    'y.html': '{code} 1 / 2 = 1/2; only once = once, on=on',
    'x.subject.txt': '{code}',
    'y.subject.txt': 's'.repeat(150),
    'x.email.txt': '\t{code}\n\nódd',
    'y.email.txt': `{code}${' '.repeat(65_530)}`,
  }), []);
});

test('a reference is the first four characters of the otp_id, in every part', () => {
  const parts = { 'x.txt': '{ref}: {code}', 'x.subject.txt': '{ref}', 'x.email.txt': '{ref} {code}',
    'x.html': '<p>{ref} {code}</p>' };
  const templates = templatesOf({ folder: folderOf(parts) });
  const message = { ...MESSAGE, purpose: 'x', otpId: `9f3a${'0'.repeat(28)}` };
  const { code } = message;
  assert.is(templates.text(message), `9f3a: ${code}`);
  assert.equal(templates.email(message),
    { subject: '9f3a', text: `9f3a ${code}`, html: `<p>9f3a ${code}</p>` });
});

test('a text message has at most 160 characters of GSM-7', () => {
  // The longest code has 10 digits.
  const longest = `{code}${'x'.repeat(150)}`;
  assert.equal(errorsOf({ 'x.txt': longest }), []);
  assert.equal(errorsOf({ 'x.txt': `${longest}x` }), [
    'x.txt must have at most 160 characters of GSM-7, not 161, with a code of 10 digits',
  ]);
  assert.equal(errorsOf({ 'x.txt': `{ref}{code}${'x'.repeat(146)}` }), []);
  assert.equal(errorsOf({ 'x.txt': `{ref}{code}${'x'.repeat(147)}` }), [
    'x.txt must have at most 160 characters of GSM-7, not 161, with a code of 10 digits, a'
    + ' reference of 4 characters',
  ]);
  const [error = ''] = errorsOf({ 'x.txt': `{code}{lifetime}${'x'.repeat(140)}` });
  assert.match(error, ', the lifetime "100 seconds"');
  assert.is(errorsOf({ 'x.txt': `{code}${'€'.repeat(75)}` }).length, 0);
  assert.is(errorsOf({ 'x.txt': `{code}${'€'.repeat(75)}x` }).length, 1);
});

test('a text outside GSM-7 has at most 70 characters', () => {
  const longest = `{code}${'ł'.repeat(60)}`;
  assert.equal(errorsOf({ 'x.txt': longest }), []);
  assert.equal(errorsOf({ 'x.txt': `${longest}x` }), [
    'x.txt must have at most 70 characters, because "ł" (U+0142) is not in GSM-7, not 71, with a'
    + ' code of 10 digits',
  ]);
  assert.equal(errorsOf({ 'x.txt': `{code}${'👍'.repeat(30)}` }), []);
  assert.is(errorsOf({ 'x.txt': `{code}${'👍'.repeat(31)}` }).length, 1);
  // The lifetime alone may be outside the alphabet.
  const lifetimes = `{code}{lifetime}${'x'.repeat(60 - '101 секунда'.length)}`;
  assert.equal(errorsOf({ 'x.ru.txt': lifetimes }), []);
  const [error = ''] = errorsOf({ 'x.ru.txt': `{code}{lifetime}${'x'.repeat(60)}` });
  assert.match(error, 'because "с" (U+0441) is not in GSM-7, not 81, ');
});

test('texts of any script are sent whole', () => {
  const texts = {
    'default.ar.txt': 'رمز التحقق: {code}', 'default.ru.txt': 'Ваш код: {code}[ ({purpose})]',
    'default.pl.txt': '{code} to hasło jednorazowe', 'default.ja.txt': '認証コード: {code}',
  };
  const templates = templatesOf({ folder: folderOf(texts) });
  for (const [name, text] of Object.entries(texts)) {
    const locale = name.split('.')[1]!;
    assert.is(templates.localeFor('sms', 'login', `${locale}, de`), locale);
    assert.is(templates.text({ ...MESSAGE, locale }),
      text.replace('{code}', '012345').replace('[ ({purpose})]', ''));
  }
});

test('labels and the brand count in a text message', () => {
  const policies = policiesOf({ purposes: { login: { label: { en: 'x'.repeat(60), de: 'ł' } } } });
  const [other = '', error = ''] = findErrors({ policies, brand: 'Acme', domain: 'example.com' });
  assert.match(error, /messages\/default\.txt must have at most 160 characters of GSM-7, not \d/);
  assert.match(error, `the label "${'x'.repeat(60)}", the brand "Acme", the lifetime`);
  assert.match(other, /messages\/default\.de\.txt must have at most 70 characters, because "ł" /);
  assert.equal(findErrors({ policies, channels: ['webhook', 'console', 'email'] }), []);
});

test('the label of a purpose that is named default counts too', () => {
  const policies = policiesOf({ purposes: { default: { label: 'x'.repeat(60) } } });
  assert.ok(findErrors({ policies, domain: `${'x'.repeat(36)}.com` }).length > 0);
  assert.equal(findErrors({ domain: `${'x'.repeat(36)}.com` }), []);
});

test('the bounds of a phone hold for phones only', () => {
  const files = {
    'default.txt': `{code}${'x'.repeat(1000)}`, 'default.ru.txt': `{code}${'я'.repeat(500)}`,
  };
  for (const channels of [['webhook'], ['console'], ['webhook', 'email']] as const) {
    assert.equal(errorsOf(files, { channels }), []);
  }
  assert.is(errorsOf(files, { channels: ['email', 'sms'] }).length, 2);
});

const RUSSIAN = {
  'default.ru.subject.txt': 'Код', 'default.ru.email.txt': '{code}',
  'default.ru.html': '<p>{code}</p>',
};

test('an e-mail is in a language that has the parts of an e-mail', () => {
  const folder = folderOf({
    ...RUSSIAN, 'default.cs.txt': '{code}', 'login.pt-BR.subject.txt': 'x',
    'default.pt.email.txt': '{code} pt', 'default.pt.html': '{code} pt',
    'default.pt.subject.txt': 'y',
  });
  const templates = templatesOf({ folder, channels: ['sms', 'email'] });
  assert.is(templates.localeFor('email', 'login', 'ru, de'), 'ru');
  assert.is(templates.localeFor('sms', 'login', 'ru, de'), 'de');
  assert.is(templates.localeFor('email', 'login', 'cs, de'), 'de');
  assert.is(templates.localeFor('sms', 'login', 'cs, de'), 'cs');
  assert.is(templates.localeFor('email', 'login', 'pt-BR'), 'pt-br');
  assert.is(templates.localeFor('email', 'other', 'pt-BR'), 'pt');
  assert.equal(templates.email({ ...MESSAGE, locale: 'ru' }),
    { subject: 'Код', text: '012345', html: '<p>012345</p>' });
  assert.equal(templates.email({ ...MESSAGE, locale: 'pt-br' }),
    { subject: 'x', text: '012345 pt', html: '012345 pt' });
});

test('a language with some of the parts of an e-mail is an error that names the others', () => {
  const channels = ['email'] as const;
  const rule = (files: string, language: string) => `MESSAGES_FOLDER must contain ${files}, because`
    + ` a message by email in ${language} needs subject.txt, email.txt, html`;
  for (const missing of Object.keys(RUSSIAN)) {
    const { [missing]: _, ...files } = RUSSIAN as Record<string, string>;
    assert.equal(errorsOf(files, { channels }), [rule(missing, 'ru')]);
    assert.equal(errorsOf(files, { channels: ['sms'] }), []);
  }
  assert.equal(errorsOf({ 'login.ru.html': '{code}' }, { channels }),
    [rule('login.ru.subject.txt and login.ru.email.txt', 'ru')]);
  assert.equal(errorsOf({ ...RUSSIAN, 'login.ru.html': '{code}' }, { channels }), []);
  assert.equal(errorsOf({ 'default.html': '{code}' }, { channels, language: 'ru' }),
    [rule('default.ru.subject.txt and default.ru.email.txt', 'ru')]);
});

test('MESSAGES_LANGUAGE must have templates for every channel', () => {
  for (const channel of ['sms', 'webhook', 'console'] as const) {
    assert.equal(findErrors({ language: 'ru', channels: [channel] }), [
      'MESSAGES_FOLDER must contain default.ru.txt, because a message by '
        + `${channel} in ru needs txt`,
    ]);
  }
  for (const language of ['en', 'en-GB', 'de-AT', 'fr', 'ES']) {
    assert.equal(findErrors({ language, channels: ['sms', 'email'] }), []);
  }
});

test('the last line and the line feed before it count', () => {
  const text = `{code}${'x'.repeat(160 - 10)}`;
  assert.equal(errorsOf({ 'x.txt': text }), []);
  const domain = 'example.com';
  assert.equal(errorsOf({ 'x.txt': text }, { domain }), ['x.txt must have at most 160 characters of'
    + ' GSM-7, not 185, with a code of 10 digits, the last line "@example.com #000000…"']);
  assert.equal(errorsOf({ 'x.txt': text.slice(0, -25) }, { domain }), []);
  assert.is(errorsOf({ 'x.txt': text.slice(0, -24) }, { domain }).length, 1);
});

test('a domain of 40 characters fits into every shipped text in GSM-7', () => {
  const domain = `${'x'.repeat(36)}.com`;
  assert.is(domain.length, 40);
  const templates = templatesOf({ domain });
  const texts = new Set(GSM_LOCALES.map((locale) => templates.text({ ...MESSAGE, locale })));
  assert.is(texts.size, GSM_LOCALES.length);
});

test('a shipped text that does not fit is not used, unless it is in the default language', () => {
  const isJapanese = (settings: Settings) =>
    /認証/.test(templatesOf(settings).text({ ...MESSAGE, locale: 'ja' }));
  assert.ok(isJapanese({ brand: 'x'.repeat(23) }));
  assert.not.ok(isJapanese({ brand: 'x'.repeat(24) }));
  assert.ok(isJapanese({ brand: 'x'.repeat(24), channels: ['webhook'] }));
  assert.ok(isJapanese({ domain: 'example.com' }));
  assert.not.ok(isJapanese({ domain: 'www.example.com' }));
  const long = { domain: 'www.example.com', channels: ['sms', 'email'] } as const;
  const templates = templatesOf(long);
  assert.is(templates.localeFor('sms', 'login', 'ja, de'), 'de');
  assert.is(templates.localeFor('email', 'login', 'ja, de'), 'ja');
  assert.match(templates.email({ ...MESSAGE, locale: 'ja' }).subject, '認証');
  for (const language of ['ja', 'ja-JP']) {
    assert.match(findErrors({ ...long, language }).join(),
      /default\.ja\.txt must have at most 70 characters, because "は" \(U\+306F\)/);
  }
  const own = folderOf({ 'default.ja.txt': `{code}${'は'.repeat(61)}` });
  assert.match(findErrors({ folder: own }).join(), /default\.ja\.txt must have at most 70/);
});

test('a file with an unknown name is an error, because it may be a typing error', () => {
  const rule = 'must be named PURPOSE.PART or PURPOSE.LOCALE.PART: a PURPOSE of letters, digits,'
    + ' _ and -, a LOCALE such as de or pt-BR, a PART of txt, subject.txt, email.txt or html';
  for (const name of [
    'default', 'default.text', 'README.md', 'default.txt~', 'default.sms.txt', 'defau lt.txt',
    'default.de-.txt', 'default.subject', 'default.subject.html', 'default.email.html',
    'default.de.fr.txt', 'default.TXT', 'é.txt', `${'p'.repeat(101)}.txt`, 'default.txt.txt',
  ]) assert.equal(errorsOf({ [name]: '{code}' }), [`${name} ${rule}`]);
});

test('names that begin with a dot are skipped, and links are followed', () => {
  const folder = folderOf({ '.DS_Store': '', '..data': '', '.default.txt.swp': '' });
  writeFileSync(join(root, 'elsewhere'), '{code} linked');
  symlinkSync(join(root, 'elsewhere'), join(folder, 'default.txt'));
  assert.is(templatesOf({ folder }).text(MESSAGE), '012345 linked');
});

test('two files for the same purpose, locale and part are an error', () => {
  const same = 'must not repeat the purpose, locale and part of another file';
  assert.equal(errorsOf({ 'default.de.txt': '{code}', 'default.DE.txt': '{code}' }),
    [`default.de.txt ${same}`]);
  assert.equal(errorsOf({ 'x.en.txt': '{code}', 'x.txt': '{code}' }), [`x.txt ${same}`]);
});

test('an unreadable folder, or an entry that is not a file, is an error', () => {
  for (const [folder, code] of [
    [join(root, 'missing'), 'ENOENT'], [join(root, 'elsewhere'), 'ENOTDIR'],
  ] as const) {
    assert.equal(findErrors({ folder }),
      [`MESSAGES_FOLDER must name a readable folder: ${folder} (${code})`]);
  }
  const folder = folderOf({});
  mkdirSync(join(folder, 'default.txt'));
  symlinkSync(join(root, 'missing'), join(folder, 'x.txt'));
  assert.equal(findErrors({ folder }), [
    `${folder}/default.txt must be a readable file of at most 64 KiB`,
    `${folder}/x.txt must be a readable file of at most 64 KiB (ENOENT)`,
  ]);
});

test('every error is reported at once, also those of the settings', () => {
  const folder = folderOf({ 'a.txt': 'x', 'b.html': 'x', 'c.x': '' });
  const errors = findErrors({ folder, domain: 'https://example.com', language: 'german' });
  assert.equal(errors.map((error) => error.slice(0, error.indexOf(' must'))), [
    'MESSAGE_DOMAIN', 'MESSAGES_LANGUAGE', `${folder}/c.x`, `${folder}/a.txt`, `${folder}/b.html`,
  ]);
});

test.after(() => rmSync(root, { recursive: true }));

test.run();
