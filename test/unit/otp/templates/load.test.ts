/** The templates that are shipped, those of a user, and what stops the start. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Message, Templates } from '../../../../src/otp/channels/channel.ts';
import { loadTemplates } from '../../../../src/otp/templates/load.ts';
import { countSeptets, findNonGsmCharacter } from '../../../../src/otp/templates/sms-text.ts';

const MESSAGE: Message = {
  otpId: 'ab'.repeat(16), userId: 'U1', purpose: 'login', code: '012345', lifetimeSeconds: 300,
  expiresAt: 0, locale: '',
};
const NONE = { folder: null, domain: null };
const SHIPPED_LOCALES = ['', 'de', 'fr', 'es'];

const root = mkdtempSync(join(tmpdir(), 'otpd-words-'));
let folders = 0;

/** A user's folder with files of these texts. */
function folderOf(files: Record<string, string | Buffer>): string {
  folders += 1;
  const folder = join(root, String(folders));
  mkdirSync(folder);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return folder;
}

function wordsOf(settings: Partial<Parameters<typeof loadTemplates>[0]>): Templates {
  const loaded = loadTemplates({ ...NONE, ...settings });
  if ('errors' in loaded) throw new Error(loaded.errors.join('\n'));
  return loaded.templates;
}

/** What is wrong with files, by their names without the folder. */
function faultsOf(files: Record<string, string | Buffer>, domain: string | null = null): string[] {
  const folder = folderOf(files);
  const loaded = loadTemplates({ ...NONE, folder, domain });
  return 'errors' in loaded ? loaded.errors.map((fault) => fault.replace(`${folder}/`, '')) : [];
}

test('the shipped text says the code, what it is for, and how long it works', () => {
  const words = wordsOf({});
  assert.is(words.text(MESSAGE),
    '012345 is your code for login. It works for 5 minutes. Never share it with anyone.');
  assert.match(words.text({ ...MESSAGE, lifetimeSeconds: 60 }), /for 1 minute\./);
  assert.match(words.text({ ...MESSAGE, lifetimeSeconds: 90 }), /for 90 seconds\./);
});

test('what is shipped is in four languages, each whole', () => {
  const words = wordsOf({});
  const seen = new Set<string>();
  for (const locale of SHIPPED_LOCALES) {
    const message = { ...MESSAGE, locale };
    const { subject, text, html } = words.email(message);
    for (const part of [words.text(message), subject, text, html]) {
      assert.not(seen.has(part), `${locale} has words of its own`);
      seen.add(part);
      assert.match(part, 'login');
    }
    for (const part of [words.text(message), text, html]) {
      assert.match(part, '012345');
      assert.match(part, /\b5 (minutes|Minuten|minutos)\b/);
    }
    assert.match(html, `<html lang="${locale || 'en'}">`);
  }
});

for (const [domain, last] of [[null, ''], ['example.com', '\n\n@example.com #012345']] as const) {
  test(`a text for a phone is one message and ends with ${JSON.stringify(last)}`, () => {
    const words = wordsOf({ domain });
    for (const locale of SHIPPED_LOCALES) {
      for (const purpose of ['login', 'p'.repeat(100), '€'.repeat(100), 'ó👍'.repeat(50), '\n@x']) {
        const text = words.text({ ...MESSAGE, locale, purpose });
        assert.ok(countSeptets(text) <= 160, text);
        assert.is(findNonGsmCharacter(text), null);
        if (purpose === 'login') assert.ok(text.endsWith(last), text);
        assert.is(text.split('\n').at(-1) === '@example.com #012345', domain !== null);
      }
    }
  });
}

test('a purpose is cut to the room there is, to the last septet', () => {
  const words = wordsOf({});
  const bare = words.text({ ...MESSAGE, purpose: '' }).length;
  const cut = words.text({ ...MESSAGE, purpose: 'p'.repeat(100) });
  assert.is(cut.length, 160);
  assert.match(cut, `code for ${'p'.repeat(160 - bare)}. It`);
  assert.match(words.text({ ...MESSAGE, purpose: 'código €' }), 'code for c?digo €. It');
});

test('a purpose that occurs twice is cut twice', () => {
  const words = wordsOf({ folder: folderOf({ 'login.txt': '{code} {purpose} {purpose}' }) });
  assert.is(wordsOf({}).text(MESSAGE).includes('login login'), false);
  assert.is(words.text(MESSAGE), '012345 login login');
  const twice = folderOf({ 'default.txt': '{code} {purpose} {purpose}' });
  const text = wordsOf({ folder: twice }).text({ ...MESSAGE, purpose: 'p'.repeat(100) });
  assert.is(text, `012345 ${'p'.repeat(76)} ${'p'.repeat(76)}`);
});

test('the blank line before the last one goes when there is no room for it', () => {
  // 160 = the code + 114 + 5 of the purpose + the last line, with a line feed before it.
  const folder = folderOf({ 'default.txt': `{code}${'x'.repeat(114 + 5 - 14)}{purpose}` });
  const words = wordsOf({ folder, domain: 'example.com' });
  const [room, full] = ['p'.repeat(27), 'p'.repeat(28)];
  const spaced = words.text({ ...MESSAGE, purpose: room });
  assert.is(spaced.length, 160);
  assert.ok(spaced.endsWith('p\n\n@example.com #012345'));
  const dense = words.text({ ...MESSAGE, purpose: full });
  assert.is(dense.length, 160);
  assert.ok(dense.endsWith('p\n@example.com #012345'));
  assert.is(words.text({ ...MESSAGE, purpose: `${full}p` }), dense, 'the purpose is cut now');
});

test('an e-mail has the whole purpose, escaped where it must be', () => {
  const purpose = `<a href="//x">&'ó👍\u2028\u202e`;
  const { subject, text, html } = wordsOf({}).email({ ...MESSAGE, purpose });
  assert.is(subject, `Your code for <a href="//x">&'ó👍??`);
  assert.match(text, `Your code for <a href="//x">&'ó👍??:\n`);
  assert.match(html, 'Your code for &lt;a href=&quot;//x&quot;&gt;&amp;&#39;ó👍??:');
});

test('a file of the user takes the place of the shipped one of its name, and no other', () => {
  const folder = folderOf({
    'default.txt': 'Acme: {code}\r\n', 'default.de.txt': '\ufeff{code}!\n\n',
  });
  const words = wordsOf({ folder });
  assert.is(words.text(MESSAGE), 'Acme: 012345');
  assert.is(words.text({ ...MESSAGE, locale: 'de' }), '012345!');
  assert.match(words.text({ ...MESSAGE, locale: 'fr' }), 'votre code');
  assert.is(words.email(MESSAGE).subject, 'Your code for login');
});

test('a message gets the first of six files', () => {
  const order = [
    'login.pt-BR.txt', 'login.pt.txt', 'default.pt-br.txt', 'default.pt.txt', 'login.txt',
    'default.txt',
  ];
  for (let first = 0; first < order.length; first += 1) {
    const names = order.slice(first);
    const folder = folderOf(Object.fromEntries(names.map((name) => [name, `{code} ${name}`])));
    assert.is(wordsOf({ folder }).text({ ...MESSAGE, locale: 'pt-br' }), `012345 ${names[0]}`);
  }
});

test('a purpose of any name gets the default, also one that looks like a file', () => {
  const words = wordsOf({ folder: folderOf({ 'default.txt': '{code} default' }) });
  for (const purpose of ['../login', 'default.de', 'default/de', '__proto__', 'constructor', 'é']) {
    assert.is(words.text({ ...MESSAGE, purpose }), '012345 default');
  }
});

test('a purpose may be called as a member of every object', () => {
  const words = wordsOf({ folder: folderOf({ '__proto__.txt': '{code} own' }) });
  assert.is(words.text({ ...MESSAGE, purpose: '__proto__' }), '012345 own');
  assert.match(words.text(MESSAGE), 'code for login');
});

test('another language of the default: what is shipped in it, or the user\'s own', () => {
  const german = wordsOf({ language: 'de' });
  assert.match(german.text(MESSAGE), 'Er gilt 5 Minuten.');
  assert.match(german.text({ ...MESSAGE, locale: 'en' }), 'for 5 minutes');
  assert.is(german.localeFor('login', 'de-AT, en'), '');
  assert.is(german.localeFor('login', 'en, de'), 'en');
  const folder = folderOf({ 'default.txt': '{code} {lifetime}', 'login.txt': '{code} own' });
  const own = wordsOf({ folder, language: 'pt-BR' });
  assert.is(own.text({ ...MESSAGE, purpose: 'x', lifetimeSeconds: 90 }), '012345 90 segundos');
  assert.is(own.text(MESSAGE), '012345 own');
  assert.is(own.localeFor('login', 'pt'), '');
  assert.is(own.localeFor('login', 'en'), 'en');
  assert.match(own.email(MESSAGE).subject, 'Your code', 'English where there is nothing else');
});

/** [Accept-Language, the locale of login, of another purpose] */
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
  ['it, nl-BE, es;q=0.5', 'it', 'es'],
  ['pt-PT, fr', 'fr', 'fr'],
  ['pt-BR, fr', 'pt-br', 'fr'],
  ['de;q=0', '', ''],
  ['xx, \u0000, -, ;q=1', '', ''],
  ['en-GB', 'en-gb', ''],
];

test('the locale is the first wanted language in which there is a text for the purpose', () => {
  const text = '{code}';
  const folder = folderOf({ 'login.it.txt': text, 'login.pt-BR.txt': text, 'login.en-GB.txt': text,
    'default.nl.subject.txt': 'x' });
  const { localeFor } = wordsOf({ folder });
  for (const [field, ofLogin, ofOther] of WANTED) {
    assert.is(localeFor('login', field), ofLogin, field);
    assert.is(localeFor('other', field), ofOther, field);
  }
});

/** [file, text, what is said of it] */
const FAULTY: [string, string | Buffer, string][] = [
  ['default.txt', 'no code', 'default.txt must contain {code}'],
  ['x.email.txt', 'no code', 'x.email.txt must contain {code}'],
  ['x.html', '<p>no code</p>', 'x.html must contain {code}'],
  ['x.txt', '', 'x.txt must contain {code}'],
  ['x.txt', '{code} {user}',
    'x.txt may contain only {code}, {purpose} and {lifetime}, not {user}'],
  ['x.html', '<p>{CODE}{code}',
    'x.html may contain only {code}, {purpose} and {lifetime}, not {CODE}'],
  ['x.subject.txt', '', 'x.subject.txt must be one line of 1 to 150 characters'],
  ['x.subject.txt', 'a\nb', 'x.subject.txt must be one line of 1 to 150 characters'],
  ['x.subject.txt', 's'.repeat(151), 'x.subject.txt must be one line of 1 to 150 characters'],
  ['x.subject.txt', 'a\u0000b', 'x.subject.txt must not contain control characters'],
  ['x.subject.txt', 'a\rb', 'x.subject.txt must not contain control characters'],
  ['x.email.txt', '{code}\u001b[2J', 'x.email.txt must not contain control characters'],
  ['x.html', '{code}\u0085', 'x.html must not contain control characters'],
  ['x.txt', '{code} código',
    'x.txt must contain only characters of GSM-7, not "ó" (U+00F3)'],
  ['x.ru.txt', '{code} {lifetime}',
    'x.ru.txt must contain only characters of GSM-7, not "с" (U+0441)'],
  ['x.txt', Buffer.from([0x7b, 0xff]), 'x.txt must be UTF-8'],
  ['x.html', `{code}${' '.repeat(65_531)}`,
    'x.html must be a readable file of at most 64 KiB'],
];

for (const [name, text, fault] of FAULTY) {
  test(`is a fault: ${fault}`, () => assert.equal(faultsOf({ [name]: text }), [fault]));
}

/** What would link, load or run. */
const NOT_IN_HTML = [
  '<a>', '<A\nname=x>', '<area/>', '<img>', '<script>', '<link>', '<iframe>', '<form>', '<svg>',
  '<video>', '<object>', '<base>', '< script', '<p href = x>', '<p SRC="x">', '<td background=x>',
  '<p style="background: url (x)">', '<p onclick=x>', '<style>@import "x"</style>', '//example.com',
  'http:', 'HTTPS:', 'mailto:', 'javascript:', '<meta x http-equiv=refresh>',
];

for (const html of NOT_IN_HTML) {
  test(`is a fault in HTML: ${html}`, () => {
    const errors = faultsOf({ 'x.html': `<p>{code}</p>${html}` });
    assert.ok(errors.length > 0);
    for (const fault of errors) {
      assert.match(fault, /^x\.html must not contain links, scripts or external resources: ./);
    }
  });
}

test('is no fault in HTML: what looks like it', () => {
  assert.equal(faultsOf({
    'x.html': '<!doctype html><article><abbr>{code}</abbr></article><b>Data: on, source</b>'
      + '<style>p { background: red } @media print { p { margin: 0 } }</style><address>x</address>',
    'y.html': '{code} 1 / 2 = 1/2; only once = once, on=on',
    'x.subject.txt': '{code}',
    'y.subject.txt': 's'.repeat(150),
    'x.email.txt': '\t{code}\n\nódd',
    'y.email.txt': `{code}${' '.repeat(65_530)}`,
  }), []);
});

test('the longest text for a phone has 160 septets, to the last', () => {
  // The longest code has 10 digits, a purpose that is never cut 20 characters.
  const longest = `{code}{purpose}${'x'.repeat(130)}`;
  assert.equal(faultsOf({ 'x.txt': longest }), []);
  assert.equal(faultsOf({ 'x.txt': `${longest}x` }), [
    'x.txt must have at most 160 characters of GSM-7, not 161, with a code of 10 digits, a purpose'
    + ' of 20 characters',
  ]);
  const [fault = ''] = faultsOf({ 'x.txt': `{code}{purpose}{lifetime}${'x'.repeat(120)}` });
  assert.match(fault, ', the lifetime "100 seconds"');
  assert.is(faultsOf({ 'x.txt': `{code}{purpose}${'€'.repeat(65)}` }).length, 0);
  assert.is(faultsOf({ 'x.txt': `{code}{purpose}${'€'.repeat(65)}x` }).length, 1);
});

test('the last line counts, with the line feed before it', () => {
  const text = `{code}${'x'.repeat(160 - 10)}`;
  assert.equal(faultsOf({ 'x.txt': text }), []);
  assert.match(faultsOf({ 'x.txt': text }, 'example.com')[0]!,
    'not 185, with a code of 10 digits, a purpose of 20 characters, the last line "@example.com #');
  assert.equal(faultsOf({ 'x.txt': text.slice(0, -25) }, 'example.com'), []);
  assert.is(faultsOf({ 'x.txt': text.slice(0, -24) }, 'example.com').length, 1);
});

test('a domain of forty characters has room beside all shipped texts', () => {
  assert.is(`${'x'.repeat(36)}.com`.length, 40);
  wordsOf({ domain: `${'x'.repeat(36)}.com` });
});

test('a file of no known form is a fault, for it may be a slip', () => {
  const rule = 'must be named PURPOSE.PART or PURPOSE.LOCALE.PART: a PURPOSE of letters, digits,'
    + ' _ and -, a LOCALE such as de or pt-BR, a PART of txt, subject.txt, email.txt or html';
  for (const name of [
    'default', 'default.text', 'README.md', 'default.txt~', 'default.sms.txt', 'defau lt.txt',
    'default.de-.txt', 'default.subject', 'default.subject.html', 'default.email.html',
    'default.de.fr.txt', 'default.TXT', 'é.txt', `${'p'.repeat(101)}.txt`, 'default.txt.txt',
  ]) assert.equal(faultsOf({ [name]: '{code}' }), [`${name} ${rule}`]);
});

test('names that begin with a dot are passed over, and links are followed', () => {
  const folder = folderOf({ '.DS_Store': '', '..data': '', '.default.txt.swp': '' });
  writeFileSync(join(root, 'elsewhere'), '{code} linked');
  symlinkSync(join(root, 'elsewhere'), join(folder, 'default.txt'));
  assert.is(wordsOf({ folder }).text(MESSAGE), '012345 linked');
});

test('two files for the same are a fault', () => {
  const same = 'must not repeat the purpose, locale and part of another file';
  assert.equal(faultsOf({ 'default.de.txt': '{code}', 'default.DE.txt': '{code}' }),
    [`default.de.txt ${same}`]);
  assert.equal(faultsOf({ 'x.en.txt': '{code}', 'x.txt': '{code}' }), [`x.txt ${same}`]);
});

test('a folder that is none, and what is no file in it, are faults', () => {
  for (const [folder, code] of [
    [join(root, 'missing'), 'ENOENT'], [join(root, 'elsewhere'), 'ENOTDIR'],
  ] as const) {
    assert.equal(loadTemplates({ ...NONE, folder }), { errors: [
      `MESSAGES_FOLDER must name a readable folder: ${folder} (${code})`,
    ] });
  }
  const folder = folderOf({});
  mkdirSync(join(folder, 'default.txt'));
  symlinkSync(join(root, 'missing'), join(folder, 'x.txt'));
  assert.equal(loadTemplates({ ...NONE, folder }), { errors: [
    `${folder}/default.txt must be a readable file of at most 64 KiB`,
    `${folder}/x.txt must be a readable file of at most 64 KiB (ENOENT)`,
  ] });
});

test('says all faults at once, also those of the settings', () => {
  const folder = folderOf({ 'a.txt': 'x', 'b.html': 'x', 'c.x': '' });
  const loaded = loadTemplates({ folder, domain: 'https://example.com', language: 'german' });
  const errors = 'errors' in loaded ? loaded.errors : [];
  assert.equal(errors.map((fault) => fault.slice(0, fault.indexOf(' must'))), [
    'MESSAGE_DOMAIN', 'MESSAGES_LANGUAGE', `${folder}/c.x`, `${folder}/a.txt`, `${folder}/b.html`,
  ]);
});

test.after(() => rmSync(root, { recursive: true }));

test.run();
