/** The e-mail channel against local mail servers: the message, and the result of each failure. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Channel, Message, SendResult } from '../../../../src/otp/channels/channel.ts';
import { parseEmailSettings } from '../../../../src/otp/channels/email-settings.ts';
import type { EmailSettings } from '../../../../src/otp/channels/email-settings.ts';
import { createEmailChannel, emailSendResult } from '../../../../src/otp/channels/email.ts';
import type { EmailOptions } from '../../../../src/otp/channels/email.ts';
import { loadTemplates } from '../../../../src/otp/templates/load.ts';
import { createPolicies, DEFAULT_POLICY } from '../../../../src/otp/policy/policy.ts';
import { createCertificate } from '../../../harness/certificate.ts';
import type { Certificate } from '../../../harness/certificate.ts';
import { eventually } from '../../../harness/waiting.ts';
import { answer, startMailServer, startScripted, stopMailServers } from './mail-server.ts';
import type { Script } from './mail-server.ts';
import { readMessage, readWords } from './mime.ts';

/** Installed under another name, because the operator installs nodemailer. */
const INSTALLED: string = 'nodemailer-in-tests';

const CERTIFICATE = createCertificate();
const ACCOUNT = 'otpd:p%40ss%2Fword%231@';
const SENT_AT = Date.UTC(2026, 0, 5, 8, 0, 0) * 1000;

/** The timeout where no response comes. */
const SHORT_MS = 90;

/** The timeout where a response must come first. */
const ENOUGH_MS = 2000;

const MESSAGE: Message = {
  otpId: '0123456789abcdef'.repeat(2), userId: 'person@example.com', purpose: 'login',
  code: '012345', lifetimeSeconds: 300, expiresAt: 0, locale: '',
};

const POLICIES = createPolicies(DEFAULT_POLICY, new Map([
  ['login', { ...DEFAULT_POLICY, labels: new Map([['en', 'sign-in']]) }],
  ['pay', { ...DEFAULT_POLICY, labels: new Map([['de', 'Überweisung']]) }],
]));

const channels: Channel[] = [];

function settingsOf(url: string, ca: string | null): EmailSettings {
  const from = 'Acme Ümlaut <otpd@mail.example.com>';
  const parsed = parseEmailSettings({ url, from, caFile: undefined });
  if ('errors' in parsed) throw new Error(parsed.errors.join('\n'));
  return { ...parsed.settings, ca };
}

async function openChannel(
  url: string,
  ca: string | null = CERTIFICATE.cert,
  options: EmailOptions = {},
  logoFile: string | null = null,
): Promise<Channel> {
  const loaded = loadTemplates({ folder: null, domain: null, channels: ['email'] });
  if ('errors' in loaded) throw new Error(loaded.errors.join('\n'));
  const templates = loaded.templates.withLabels(POLICIES);
  const channel = await createEmailChannel({ ...settingsOf(url, ca), logoFile }, templates, {
    load: () => import(INSTALLED), ...options,
  });
  channels.push(channel);
  return channel;
}

/** Sends one message to a scripted server. */
async function sendTo(script: Script): Promise<{ result: SendResult; commands: string[] }> {
  const { port, commands } = await startScripted(script);
  const options = Object.values(script).includes(null) ? { timeoutMs: SHORT_MS } : {};
  const channel = await openChannel(`smtp://127.0.0.1:${port}`, null, options);
  return { result: await channel.send(MESSAGE, SENT_AT), commands };
}

const retry = (reason: string): SendResult => ({ kind: 'retry', reason, afterSeconds: null });
const denied = (reason: string): SendResult => ({ kind: 'denied', reason, afterSeconds: null });
const refused = (reason: string): SendResult => ({ kind: 'refused', reason });

test.after.each(async () => {
  for (const channel of channels.splice(0)) channel.close();
  await stopMailServers();
});

test('a message is sent over STARTTLS with a user name and password', async () => {
  const { port, mails } = await startMailServer(CERTIFICATE);
  const channel = await openChannel(`smtp://${ACCOUNT}localhost:${port}`);
  assert.equal(await channel.send(MESSAGE, SENT_AT), { kind: 'accepted' });
  assert.is(mails.length, 1);
  const { raw, ...envelope } = mails[0]!;
  assert.equal(envelope, {
    from: 'otpd@mail.example.com', to: ['person@example.com'], user: 'otpd', isSecure: true,
  });
  const { header, parts } = readMessage(raw);
  assert.is(readWords(header.get('from') ?? ''), 'Acme Ümlaut <otpd@mail.example.com>');
  assert.is(header.get('to'), 'person@example.com');
  assert.is(header.get('subject'), 'Your code for sign-in');
  assert.is(header.get('message-id'), `<${MESSAGE.otpId}@mail.example.com>`);
  assert.is(header.get('date'), 'Mon, 05 Jan 2026 08:00:00 +0000');
  assert.is(header.get('auto-submitted'), 'auto-generated');
  assert.equal([...header.keys()].sort(), ['auto-submitted', 'content-type', 'date', 'from',
    'message-id', 'mime-version', 'subject', 'to']);
  assert.match(header.get('content-type') ?? '', /^multipart\/alternative;/);
  assert.equal(parts.map((part) => part.header.get('content-type')),
    ['text/plain; charset=utf-8', 'text/html; charset=utf-8']);
  for (const { text } of parts) {
    for (const words of ['012345', 'sign-in', '5 minutes', 'Never']) assert.match(text, words);
    assert.not.match(text, /https?:|\/\/|href|src|<a\b|<img/i);
  }
});

test('a message is sent over implicit TLS to an IP address without an account', async () => {
  const options = { secure: true, authOptional: true };
  const { port, mails } = await startMailServer(CERTIFICATE, options);
  const channel = await openChannel(`smtps://127.0.0.1:${port}`);
  const german = { ...MESSAGE, locale: 'de', purpose: 'pay' };
  assert.equal(await channel.send(german, SENT_AT), { kind: 'accepted' });
  assert.is(mails[0]?.isSecure, true);
  assert.is(mails[0]?.user, '');
  const { header, parts } = readMessage(mails[0]!.raw);
  assert.is(readWords(header.get('subject') ?? ''), 'Ihr Code für Überweisung');
  for (const { text } of parts) assert.match(text, 'Ihr Code für Überweisung:');
});

/** The bytes that a file of each type begins with. */
const IMAGES: [string, number[]][] = [
  ['png', [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]],
  ['jpeg', [0xff, 0xd8, 0xff, 0xe0]],
  ['gif', [...Buffer.from('GIF89a')]],
];

function openWithLogo(port: number, content: Buffer | null): Promise<Channel> {
  const logoFile = join(mkdtempSync(join(tmpdir(), 'otpd-logo-')), 'logo');
  if (content !== null) writeFileSync(logoFile, content);
  return openChannel(`smtp://${ACCOUNT}localhost:${port}`, CERTIFICATE.cert, {}, logoFile)
    .finally(() => rmSync(dirname(logoFile), { recursive: true }));
}

for (const [type, start] of IMAGES) {
  test(`a logo of type ${type} travels in the message and is shown above the text`, async () => {
    const { port, mails } = await startMailServer(CERTIFICATE);
    const content = Buffer.alloc(64 * 1024, 7);
    content.set(start);
    const channel = await openWithLogo(port, content);
    assert.equal(await channel.send(MESSAGE, SENT_AT), { kind: 'accepted' });
    const { parts: [plain, related] } = readMessage(mails[0]!.raw);
    assert.match(plain!.text, '012345');
    assert.match(related!.header.get('content-type')!, /^multipart\/related;/);
    const { parts: [html, image] } = readMessage(related!.raw);
    assert.match(html!.text, '<body style="font-family: sans-serif; font-size: 16px; line-height:'
      + ' 1.5"><p><img src="cid:logo@mail.example.com" alt="Acme Ümlaut"'
      + ' style="max-height: 60px; max-width: 240px"></p>\n<p>Your code');
    assert.match(image!.header.get('content-type')!, new RegExp(`^image/${type};`));
    assert.is(image!.header.get('content-id'), '<logo@mail.example.com>');
    assert.match(image!.header.get('content-disposition')!, /^inline;/);
    const [, encoded = ''] = image!.raw.split('\r\n\r\n');
    assert.ok(Buffer.from(encoded, 'base64').equals(content));
  });
}

test('a logo that is too large, of another type or missing is an error that says what is allowed',
  async () => {
    const { port } = await startMailServer(CERTIFICATE);
    const png = Buffer.from(IMAGES[0]![1]);
    const wrong = [null, Buffer.alloc(0), Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'),
      png.subarray(0, 7), Buffer.concat([png, Buffer.alloc(64 * 1024 - 7)])];
    for (const content of wrong) {
      try {
        await openWithLogo(port, content);
        assert.unreachable();
      } catch (error) {
        assert.match((error as Error).message,
          /^EMAIL_LOGO must name a PNG, JPEG or GIF file of at most 64 KiB: \//);
      }
    }
  });

test('a retry has the same Message-ID, and another message has another', async () => {
  const { port, mails } = await startMailServer(CERTIFICATE);
  const channel = await openChannel(`smtp://${ACCOUNT}localhost:${port}`);
  for (const message of [MESSAGE, MESSAGE, { ...MESSAGE, otpId: 'f'.repeat(32) }]) {
    await channel.send(message, SENT_AT);
  }
  const ids = mails.map(({ raw }) => readMessage(raw).header.get('message-id'));
  assert.equal(ids, [MESSAGE.otpId, MESSAGE.otpId, 'f'.repeat(32)]
    .map((id) => `<${id}@mail.example.com>`));
});

test('all messages share a few connections', async () => {
  const { port, mails, connections } = await startMailServer(CERTIFICATE);
  const channel = await openChannel(`smtp://${ACCOUNT}localhost:${port}`);
  const sent = Array.from({ length: 40 }, () => channel.send(MESSAGE, SENT_AT));
  const results = await Promise.all(sent);
  assert.is(results.filter(({ kind }) => kind === 'accepted').length, 40);
  assert.is(mails.length, 40);
  assert.ok(connections() > 1 && connections() <= 5, String(connections()));
});

test('a local server without SMTP_CA is used without TLS, even if it offers STARTTLS', async () => {
  const { port, mails } = await startMailServer(CERTIFICATE, { authOptional: true });
  const channel = await openChannel(`smtp://127.0.0.1:${port}`, null);
  assert.equal(await channel.send(MESSAGE, SENT_AT), { kind: 'accepted' });
  assert.is(mails[0]?.isSecure, false);
});

const OTHER = createCertificate({ host: 'other.example' });

/** [the certificate of the server, the trusted authority, the reason] */
const UNTRUSTED: [Certificate, string | null, string][] = [
  [CERTIFICATE, createCertificate().cert, 'DEPTH_ZERO_SELF_SIGNED_CERT'],
  [CERTIFICATE, null, 'DEPTH_ZERO_SELF_SIGNED_CERT'],
  [OTHER, OTHER.cert, 'ERR_TLS_CERT_ALTNAME_INVALID'],
];

for (const scheme of ['smtp', 'smtps']) {
  for (const [certificate, ca, reason] of UNTRUSTED) {
    // To a local server without an authority STARTTLS is not tried.
    if (scheme === 'smtp' && ca === null) continue;
    test(`an unverified server gets no message: ${scheme}, ${reason}`, async () => {
      let logins = 0;
      const { port, mails } = await startMailServer(certificate, {
        secure: scheme === 'smtps',
        onAuth: ({ username }, _, done) => { logins += 1; done(null, { user: username }); },
      });
      const channel = await openChannel(`${scheme}://${ACCOUNT}localhost:${port}`, ca);
      assert.equal(await channel.send(MESSAGE, SENT_AT), retry(reason));
      assert.is(logins, 0);
      assert.equal(mails, []);
    });
  }
}

test('nothing is sent when STARTTLS is missing or refused', async () => {
  for (const script of [{}, { EHLO: '250-test\r\n250 STARTTLS', STARTTLS: '454 later' }]) {
    const { port, commands } = await startScripted({ ...script, AUTH: '235 ok' });
    const channel = await openChannel(`smtp://${ACCOUNT}127.0.0.1:${port}`);
    assert.equal(await channel.send(MESSAGE, SENT_AT), retry('ETLS'));
    assert.equal(commands, ['connect', 'EHLO', 'STARTTLS']);
  }
});

test('a wrong password is no fault of the message', async () => {
  const { port, mails } = await startMailServer(CERTIFICATE);
  const channel = await openChannel(`smtp://otpd:wrong@localhost:${port}`);
  assert.equal(await channel.send(MESSAGE, SENT_AT), denied('EAUTH'));
  assert.equal(mails, []);
});

test('a permanent error of one recipient does not affect the next', async () => {
  const { port, mails } = await startMailServer(CERTIFICATE, {
    onRcptTo: ({ address }, _, done) => {
      if (address.startsWith('nobody')) done(answer(550, `no user ${address} 012345`));
      else if (address.startsWith('full')) done(answer(451, `try ${address} later 012345`));
      else done();
    },
  });
  const channel = await openChannel(`smtp://${ACCOUNT}localhost:${port}`);
  const send = (userId: string) => channel.send({ ...MESSAGE, userId }, SENT_AT);
  assert.equal(await send('nobody@example.com'), refused('smtp 550'));
  assert.equal(await send('full@example.com'), retry('smtp 451'));
  assert.equal(await send('person@example.com'), { kind: 'accepted' });
  assert.equal(mails.map(({ to }) => to), [['person@example.com']]);
});

test('a message to an internationalized domain goes to its form in ASCII', async () => {
  const { port, mails } = await startMailServer(CERTIFICATE, {});
  const channel = await openChannel(`smtp://${ACCOUNT}localhost:${port}`);
  const userId = 'user@MÜNCHEN.de';
  assert.ok(channel.accepts(userId));
  assert.equal(await channel.send({ ...MESSAGE, userId }, SENT_AT), { kind: 'accepted' });
  assert.is(readMessage(mails[0]!.raw).header.get('to'), 'user@xn--mnchen-3ya.de');
  // The server of the test decodes the domain of the envelope.
  assert.equal(mails[0]!.to, ['user@münchen.de']);
});

test('a message goes to the address that its request names', async () => {
  const { port, mails } = await startMailServer(CERTIFICATE, {});
  const channel = await openChannel(`smtp://${ACCOUNT}localhost:${port}`);
  const message = { ...MESSAGE, userId: 'U1', to: 'other@example.com' };
  assert.equal(await channel.send(message, SENT_AT), { kind: 'accepted' });
  assert.equal(mails.map(({ to }) => to), [['other@example.com']]);
});

/** [the script, the result] */
const ENDINGS: [Script, SendResult][] = [
  [{}, { kind: 'accepted' }],
  [{ RCPT: '550 no such user' }, refused('smtp 550')],
  [{ RCPT: '553 mailbox name' }, refused('smtp 553')],
  [{ RCPT: '451 later' }, retry('smtp 451')],
  [{ RCPT: '421 closing' }, retry('smtp 421')],
  [{ RCPT: '503 bad sequence' }, retry('smtp 503')],
  [{ RCPT: '550 5.1.1 no such user' }, refused('smtp 550 5.1.1')],
  [{ RCPT: '550-5.1.10 null MX\r\n550 5.1.10 for this domain' }, refused('smtp 550 5.1.10')],
  [{ RCPT: '550 5.2.1 mailbox disabled' }, refused('smtp 550 5.2.1')],
  [{ RCPT: '552 5.2.2 mailbox full' }, refused('smtp 552 5.2.2')],
  [{ RCPT: '554 5.4.4 unable to route' }, refused('smtp 554 5.4.4')],
  [{ RCPT: '550 5.5.0 mailbox unavailable' }, refused('smtp 550 5.5.0')],
  [{ RCPT: '551 user not local' }, refused('smtp 551')],
  [{ RCPT: '556 domain takes no mail' }, refused('smtp 556')],
  [{ RCPT: '550 5.7.1 relaying denied' }, denied('smtp 550 5.7.1')],
  [{ RCPT: '550 5.7.26 unauthenticated sender' }, denied('smtp 550 5.7.26')],
  [{ RCPT: '554 5.7.1 client host blocked' }, denied('smtp 554 5.7.1')],
  [{ RCPT: '550 5.1.8 bad sender' }, denied('smtp 550 5.1.8')],
  [{ RCPT: '554 5.0.0 no' }, denied('smtp 554 5.0.0')],
  [{ RCPT: '554 blocked' }, denied('smtp 554')],
  [{ RCPT: '530 5.7.0 authentication required' }, denied('smtp 530 5.7.0')],
  [{ RCPT: '500 5.5.1 what' }, denied('smtp 500 5.5.1')],
  [{ RCPT: '550 5.7.1234 012345' }, refused('smtp 550')],
  [{ RCPT: '450 4.7.1 greylisted' }, retry('smtp 450')],
  [{ '.': '554 5.6.0 content' }, refused('smtp 554 5.6.0')],
  [{ '.': '552 5.3.4 too large' }, refused('smtp 552 5.3.4')],
  [{ '.': '550 5.7.1 spam' }, denied('smtp 550 5.7.1')],
  [{ '.': '554 5.3.0 system' }, denied('smtp 554 5.3.0')],
  [{ DATA: '554 no' }, denied('smtp 554')],
  [{ DATA: '451 no' }, retry('smtp 451')],
  [{ '.': '554 looks like spam' }, denied('smtp 554')],
  [{ '.': '552 too large' }, refused('smtp 552')],
  [{ '.': '452 full' }, retry('smtp 452')],
  [{ MAIL: '550 not from you' }, denied('smtp 550')],
  [{ MAIL: '550 5.1.1 not from you' }, denied('smtp 550 5.1.1')],
  [{ MAIL: '421 closing' }, retry('smtp 421')],
  [{ connect: '554 not you' }, denied('smtp 554')],
  [{ connect: '421 busy' }, retry('smtp 421')],
  [{ connect: 'HTTP/1.1 400 Bad Request' }, retry('EPROTOCOL')],
  [{ EHLO: '421 busy', HELO: '421 busy' }, retry('smtp 421')],
  [{ connect: 'cut' }, retry('ECONNECTION')],
  [{ EHLO: 'cut' }, retry('ECONNECTION')],
  [{ MAIL: 'cut' }, retry('ECONNECTION')],
  [{ RCPT: 'cut' }, retry('ECONNECTION')],
  [{ DATA: 'cut' }, retry('ECONNECTION')],
  [{ '.': 'cut' }, retry('ECONNECTION')],
  [{ connect: null }, retry('ETIMEDOUT')],
  [{ EHLO: null }, retry('ETIMEDOUT')],
  [{ RCPT: null }, retry('ETIMEDOUT')],
  [{ '.': null }, retry('ETIMEDOUT')],
];

for (const [script, expected] of ENDINGS) {
  test(`the script ${JSON.stringify(script)} gives ${JSON.stringify(expected)}`, async () => {
    assert.equal((await sendTo(script)).result, expected);
  });
}

test('a refused connection is a retry', async () => {
  const { port } = await startScripted({});
  await stopMailServers();
  const channel = await openChannel(`smtp://127.0.0.1:${port}`, null);
  assert.equal(await channel.send(MESSAGE, SENT_AT), retry('ECONNREFUSED'));
});

test('a message that times out in the queue is not sent later', async () => {
  const script: Record<string, string | null> = { connect: null };
  const { port, commands } = await startScripted(script);
  const channel = await openChannel(`smtp://127.0.0.1:${port}`, null, { timeoutMs: ENOUGH_MS });
  const results = await Promise.all(Array.from({ length: 12 },
    () => channel.send(MESSAGE, SENT_AT)));
  assert.equal(results, Array.from({ length: 12 }, () => retry('ETIMEDOUT')));
  assert.not(commands.includes('EHLO'));
  script.connect = '220 test';
  assert.equal(await channel.send(MESSAGE, SENT_AT), { kind: 'accepted' });
  assert.is(commands.filter((command) => command === '.').length, 1);
});

test('an idle connection that the server has closed loses no message', async () => {
  const { port, commands, hangUp } = await startScripted({});
  const channel = await openChannel(`smtp://127.0.0.1:${port}`, null);
  for (let count = 0; count < 3; count += 1) {
    assert.equal(await channel.send(MESSAGE, SENT_AT), { kind: 'accepted' });
    hangUp();
  }
  assert.is(commands.filter((command) => command === '.').length, 3);
  assert.is(commands.filter((command) => command === 'connect').length, 3);
});

test('close aborts attempts in flight, and later ones send nothing', async () => {
  const { port, commands } = await startScripted({ RCPT: null });
  const channel = await openChannel(`smtp://127.0.0.1:${port}`, null);
  const sent = channel.send(MESSAGE, SENT_AT);
  const waiting = Array.from({ length: 6 }, () => channel.send(MESSAGE, SENT_AT));
  await eventually('the first is under way', () => commands.includes('RCPT'));
  channel.close();
  for (const result of await Promise.all([sent, ...waiting])) {
    assert.is(result.kind, 'retry');
    assert.not.equal(result, retry('ETIMEDOUT'), 'not even waited for');
  }
  assert.equal(await channel.send(MESSAGE, SENT_AT), retry('ECONNECTION'));
});

/** [SMTP_URL, implicit TLS, required STARTTLS, forbidden STARTTLS] */
const ENCRYPTED: [string, boolean, boolean, boolean][] = [
  ['smtp://mail.example.com', false, true, false],
  ['smtp://192.0.2.1', false, true, false],
  ['smtps://mail.example.com', true, false, false],
  ['smtps://localhost', true, false, false],
  ['smtp://localhost', false, false, true],
];

test('a connection to another machine is always encrypted', async () => {
  for (const [url, secure, requireTLS, ignoreTLS] of ENCRYPTED) {
    const made: Record<string, unknown>[] = [];
    const createTransport = (options: object) => {
      made.push(options as Record<string, unknown>);
      return { sendMail: async () => {}, close: () => {} };
    };
    await openChannel(url, null, { load: async () => ({ createTransport }) });
    const [{ tls, ...options } = { tls: null }] = made;
    assert.equal([options.secure, options.requireTLS, options.ignoreTLS],
      [secure, requireTLS, ignoreTLS], url);
    const { minVersion, rejectUnauthorized } = tls as Record<string, unknown>;
    assert.equal([minVersion, rejectUnauthorized], ['TLSv1.2', true]);
    assert.equal([options.disableFileAccess, options.disableUrlAccess], [true, true]);
  }
});

test('the channel accepts plain addresses and sends to nothing else', async () => {
  const { port, commands } = await startScripted({});
  const channel = await openChannel(`smtp://127.0.0.1:${port}`, null);
  assert.is(channel.name, 'email');
  assert.is(channel.addressFormat, 'an e-mail address');
  assert.ok(channel.accepts('person@example.com'));
  for (const userId of ['U1', 'a@b.example,c@d.example', 'a@b.example\r\nBcc: c@d.example']) {
    assert.not(channel.accepts(userId));
    const result = await channel.send({ ...MESSAGE, userId }, SENT_AT);
    assert.equal(result, refused('no e-mail address'));
  }
  assert.equal(commands, []);
});

test('an internal error is a retry, not an exception', async () => {
  const email = () => { throw new Error('012345'); };
  const broken = { text: () => '', localeFor: () => '', email };
  const settings = settingsOf('smtp://127.0.0.1:1', null);
  const load = () => import(INSTALLED);
  const channel = await createEmailChannel(settings, broken, { load });
  assert.equal(await channel.send(MESSAGE, SENT_AT), retry('unknown'));
});

test('a reason is a code and never a text', () => {
  for (const error of [undefined, null, 'text', 7, new Error('012345'), { code: 'no code: 012345' },
    { code: 12345 }, { originalCode: 'a b' }]) {
    assert.equal(emailSendResult(error), retry('unknown'));
  }
  assert.equal(emailSendResult({ code: 'EAUTH', responseCode: 535, permanent: true }),
    denied('EAUTH'));
  assert.equal(emailSendResult({ code: 'EAUTH', responseCode: 454, permanent: false }),
    retry('EAUTH'));
  assert.equal(
    emailSendResult({ code: 'ESOCKET', originalCode: 'ECONNRESET' }), retry('ECONNRESET'),
  );
});

test('a missing nodemailer is an error that names the command to install it', async () => {
  const settings = settingsOf('smtp://127.0.0.1:1', null);
  const email = () => { throw new Error('nothing is sent'); };
  const templates = { text: () => '', localeFor: () => '', email };
  const failWith = async (code: string, name: string): Promise<string> => {
    const error = Object.assign(new Error(`Cannot find package '${name}' from x`), { code });
    const load = () => Promise.reject(error);
    return createEmailChannel(settings, templates, { load })
      .then(() => '', ({ message }) => message);
  };
  assert.is(await failWith('ERR_MODULE_NOT_FOUND', 'nodemailer'),
    'DELIVERY names email, which needs nodemailer: npm i nodemailer');
  assert.is(await failWith('ERR_MODULE_NOT_FOUND', 'other'), "Cannot find package 'other' from x");
  assert.is(await failWith('EACCES', 'nodemailer'), "Cannot find package 'nodemailer' from x");
});

test.run();
