/** The shipped templates, an operator's own, and the errors that stop the start. */
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

function templatesOf(settings: Partial<Parameters<typeof loadTemplates>[0]>): Templates {
  const loaded = loadTemplates({ ...NONE, ...settings });
  if ('errors' in loaded) throw new Error(loaded.errors.join('\n'));
  return loaded.templates;
}

/** The errors of these files, without the path of their folder. */
function errorsOf(files: Record<string, string | Buffer>, domain: string | null = null): string[] {
  const folder = folderOf(files);
  const loaded = loadTemplates({ ...NONE, folder, domain });
  return 'errors' in loaded ? loaded.errors.map((error) => error.replace(`${folder}/`, '')) : [];
}

test('the shipped text contains the code, the purpose and the lifetime', () => {
  const templates = templatesOf({});
  assert.is(templates.text(MESSAGE),
    '012345 is your code for login. It works for 5 minutes. Never share it with anyone.');
  assert.match(templates.text({ ...MESSAGE, lifetimeSeconds: 60 }), /for 1 minute\./);
  assert.match(templates.text({ ...MESSAGE, lifetimeSeconds: 90 }), /for 90 seconds\./);
});

test('every part is shipped in four languages', () => {
  const templates = templatesOf({});
  const seen = new Set<string>();
  for (const locale of SHIPPED_LOCALES) {
    const message = { ...MESSAGE, locale };
    const { subject, text, html } = templates.email(message);
    for (const part of [templates.text(message), subject, text, html]) {
      assert.not(seen.has(part), `${locale} has templates of its own`);
      seen.add(part);
      assert.match(part, 'login');
    }
    for (const part of [templates.text(message), text, html]) {
      assert.match(part, '012345');
      assert.match(part, /\b5 (minutes|Minuten|minutos)\b/);
    }
    assert.match(html, `<html lang="${locale || 'en'}">`);
  }
});

for (const [domain, last] of [[null, ''], ['example.com', '\n\n@example.com #012345']] as const) {
  test(`a text message has at most 160 septets and ends with ${JSON.stringify(last)}`, () => {
    const templates = templatesOf({ domain });
    for (const locale of SHIPPED_LOCALES) {
      for (const purpose of ['login', 'p'.repeat(100), '€'.repeat(100), 'ó👍'.repeat(50), '\n@x']) {
        const text = templates.text({ ...MESSAGE, locale, purpose });
        assert.ok(countSeptets(text) <= 160, text);
        assert.is(findNonGsmCharacter(text), null);
        if (purpose === 'login') assert.ok(text.endsWith(last), text);
        assert.is(text.split('\n').at(-1) === '@example.com #012345', domain !== null);
      }
    }
  });
}

test('a purpose is truncated to the septets that are left', () => {
  const templates = templatesOf({});
  const bare = templates.text({ ...MESSAGE, purpose: '' }).length;
  const cut = templates.text({ ...MESSAGE, purpose: 'p'.repeat(100) });
  assert.is(cut.length, 160);
  assert.match(cut, `code for ${'p'.repeat(160 - bare)}. It`);
  assert.match(templates.text({ ...MESSAGE, purpose: 'código €' }), 'code for c?digo €. It');
});

test('a purpose that occurs twice is truncated twice', () => {
  const folder = folderOf({ 'login.txt': '{code} {purpose} {purpose}' });
  const templates = templatesOf({ folder });
  assert.is(templatesOf({}).text(MESSAGE).includes('login login'), false);
  assert.is(templates.text(MESSAGE), '012345 login login');
  const twice = folderOf({ 'default.txt': '{code} {purpose} {purpose}' });
  const text = templatesOf({ folder: twice }).text({ ...MESSAGE, purpose: 'p'.repeat(100) });
  assert.is(text, `012345 ${'p'.repeat(76)} ${'p'.repeat(76)}`);
});

test('the blank line before the last line is dropped when it does not fit', () => {
  // 160 = the code, 114 characters, 5 of the purpose, a line feed and the last line.
  const folder = folderOf({ 'default.txt': `{code}${'x'.repeat(114 + 5 - 14)}{purpose}` });
  const templates = templatesOf({ folder, domain: 'example.com' });
  const [room, full] = ['p'.repeat(27), 'p'.repeat(28)];
  const spaced = templates.text({ ...MESSAGE, purpose: room });
  assert.is(spaced.length, 160);
  assert.ok(spaced.endsWith('p\n\n@example.com #012345'));
  const dense = templates.text({ ...MESSAGE, purpose: full });
  assert.is(dense.length, 160);
  assert.ok(dense.endsWith('p\n@example.com #012345'));
  assert.is(templates.text({ ...MESSAGE, purpose: `${full}p` }), dense, 'the purpose is cut now');
});

test('the last line names an internationalized domain in ASCII, as browsers do', () => {
  const templates = templatesOf({ domain: 'münchen.de' });
  assert.ok(templates.text(MESSAGE).endsWith('@xn--mnchen-3ya.de #012345'));
});

test('an e-mail contains the whole purpose, escaped in HTML', () => {
  const purpose = `<a href="//x">&'ó👍\u2028\u202e`;
  const { subject, text, html } = templatesOf({}).email({ ...MESSAGE, purpose });
  assert.is(subject, `Your code for <a href="//x">&'ó👍??`);
  assert.match(text, `Your code for <a href="//x">&'ó👍??:\n`);
  assert.match(html, 'Your code for &lt;a href=&quot;//x&quot;&gt;&amp;&#39;ó👍??:');
});

test('an own file replaces the shipped file of the same name and no other', () => {
  const folder = folderOf({
    'default.txt': 'Acme: {code}\r\n', 'default.de.txt': '\ufeff{code}!\n\n',
  });
  const templates = templatesOf({ folder });
  assert.is(templates.text(MESSAGE), 'Acme: 012345');
  assert.is(templates.text({ ...MESSAGE, locale: 'de' }), '012345!');
  assert.match(templates.text({ ...MESSAGE, locale: 'fr' }), 'votre code');
  assert.is(templates.email(MESSAGE).subject, 'Your code for login');
});

test('a message uses the first of six files that exists', () => {
  const order = [
    'login.pt-BR.txt', 'login.pt.txt', 'default.pt-br.txt', 'default.pt.txt', 'login.txt',
    'default.txt',
  ];
  for (let first = 0; first < order.length; first += 1) {
    const names = order.slice(first);
    const folder = folderOf(Object.fromEntries(names.map((name) => [name, `{code} ${name}`])));
    assert.is(templatesOf({ folder }).text({ ...MESSAGE, locale: 'pt-br' }), `012345 ${names[0]}`);
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
  assert.match(templates.text(MESSAGE), 'code for login');
});

test('MESSAGES_LANGUAGE changes the default language of shipped and own templates', () => {
  const german = templatesOf({ language: 'de' });
  assert.match(german.text(MESSAGE), 'Er gilt 5 Minuten.');
  assert.match(german.text({ ...MESSAGE, locale: 'en' }), 'for 5 minutes');
  assert.is(german.localeFor('login', 'de-AT, en'), '');
  assert.is(german.localeFor('login', 'en, de'), 'en');
  const folder = folderOf({ 'default.txt': '{code} {lifetime}', 'login.txt': '{code} own' });
  const own = templatesOf({ folder, language: 'pt-BR' });
  assert.is(own.text({ ...MESSAGE, purpose: 'x', lifetimeSeconds: 90 }), '012345 90 segundos');
  assert.is(own.text(MESSAGE), '012345 own');
  assert.is(own.localeFor('login', 'pt'), '');
  assert.is(own.localeFor('login', 'en'), 'en');
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
  ['it, nl-BE, es;q=0.5', 'it', 'es'],
  ['pt-PT, fr', 'fr', 'fr'],
  ['pt-BR, fr', 'pt-br', 'fr'],
  ['de;q=0', '', ''],
  ['xx, \u0000, -, ;q=1', '', ''],
  ['en-GB', 'en-gb', ''],
];

test('the locale is the first accepted language that has a text for the purpose', () => {
  const text = '{code}';
  const folder = folderOf({ 'login.it.txt': text, 'login.pt-BR.txt': text, 'login.en-GB.txt': text,
    'default.nl.subject.txt': 'x' });
  const { localeFor } = templatesOf({ folder });
  for (const [field, ofLogin, ofOther] of WANTED) {
    assert.is(localeFor('login', field), ofLogin, field);
    assert.is(localeFor('other', field), ofOther, field);
  }
});

/** [file, text, the error] */
const INVALID: [string, string | Buffer, string][] = [
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

test('a text message has at most 160 septets', () => {
  // The longest code has 10 digits; a purpose of 20 characters is never truncated.
  const longest = `{code}{purpose}${'x'.repeat(130)}`;
  assert.equal(errorsOf({ 'x.txt': longest }), []);
  assert.equal(errorsOf({ 'x.txt': `${longest}x` }), [
    'x.txt must have at most 160 characters of GSM-7, not 161, with a code of 10 digits, a purpose'
    + ' of 20 characters',
  ]);
  const [error = ''] = errorsOf({ 'x.txt': `{code}{purpose}{lifetime}${'x'.repeat(120)}` });
  assert.match(error, ', the lifetime "100 seconds"');
  assert.is(errorsOf({ 'x.txt': `{code}{purpose}${'€'.repeat(65)}` }).length, 0);
  assert.is(errorsOf({ 'x.txt': `{code}{purpose}${'€'.repeat(65)}x` }).length, 1);
});

test('the last line and the line feed before it count', () => {
  const text = `{code}${'x'.repeat(160 - 10)}`;
  assert.equal(errorsOf({ 'x.txt': text }), []);
  assert.match(errorsOf({ 'x.txt': text }, 'example.com')[0]!,
    'not 185, with a code of 10 digits, a purpose of 20 characters, the last line "@example.com #');
  assert.equal(errorsOf({ 'x.txt': text.slice(0, -25) }, 'example.com'), []);
  assert.is(errorsOf({ 'x.txt': text.slice(0, -24) }, 'example.com').length, 1);
});

test('a domain of 40 characters fits into every shipped text', () => {
  assert.is(`${'x'.repeat(36)}.com`.length, 40);
  templatesOf({ domain: `${'x'.repeat(36)}.com` });
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

test('every error is reported at once, also those of the settings', () => {
  const folder = folderOf({ 'a.txt': 'x', 'b.html': 'x', 'c.x': '' });
  const loaded = loadTemplates({ folder, domain: 'https://example.com', language: 'german' });
  const errors = 'errors' in loaded ? loaded.errors : [];
  assert.equal(errors.map((error) => error.slice(0, error.indexOf(' must'))), [
    'MESSAGE_DOMAIN', 'MESSAGES_LANGUAGE', `${folder}/c.x`, `${folder}/a.txt`, `${folder}/b.html`,
  ]);
});

test.after(() => rmSync(root, { recursive: true }));

test.run();
