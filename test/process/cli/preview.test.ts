/** `otpd preview` as a process: each channel, the language of each, and no database. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { objectOf, runCommand } from '../../harness/command.ts';

const folder = mkdtempSync(join(tmpdir(), 'otpd-preview-'));
const policy = join(folder, 'policy.json');
const SMS = { SMS_ACCOUNT: 'AC0', SMS_TOKEN: 't', SMS_SENDER: '+14155550100' };
const EMAIL = { SMTP_URL: 'smtp://localhost', EMAIL_FROM: 'otpd@example.com' };
const ALL = { DELIVERY: 'sms,email', POLICY_FILE: policy, ...SMS, ...EMAIL };

test.before(() => {
  writeFileSync(policy, JSON.stringify({
    allowed_purposes: ['login', 'pay'],
    purposes: { pay: { code_digits: 8, lifetime_seconds: 90, label: { de: 'die Zahlung' } } },
  }));
});
test.after(() => rmSync(folder, { recursive: true, force: true }));

test('preview prints the text of each channel as text', async () => {
  const { status, out, err } = await runCommand(['preview', 'pay', 'de-AT', '--text'], ALL);
  assert.equal([status, err], [0, '']);
  assert.ok(out.startsWith(`sms, in de
91 of 160 characters
12345678 ist Ihr Code für die Zahlung. Er gilt 90 Sekunden. Geben Sie ihn niemandem weiter.

email, in de
subject: Ihr Code für die Zahlung
text:
Ihr Code für die Zahlung:
`), out);
  assert.match(out, /\nhtml:\n<!doctype html>[^]*12345678[^]*<\/html>\n\n$/);
});

test('each channel has its own language, and Japanese is measured in characters of UCS-2',
  async () => {
    const japanese = objectOf(await runCommand(['preview', 'login', 'ja'], ALL));
    const [sms, email] = japanese.messages as Record<string, unknown>[];
    assert.equal([sms!.channel, sms!.locale, sms!.length, sms!.max], ['sms', 'ja', 39, 70]);
    assert.is(sms!.text, '123456は認証コードです。有効期間は5 分です。誰にも教えないでください。');
    assert.equal([email!.channel, email!.locale, email!.subject], ['email', 'ja', '認証コード']);
    const long = { ...ALL, MESSAGE_DOMAIN: 'www.example.com' };
    const { messages } = objectOf(await runCommand(['preview', 'login', 'ja'], long));
    assert.equal((messages as Record<string, unknown>[]).map(({ locale }) => locale), [null, 'ja']);
    assert.match((messages as Record<string, string>[])[0]!.text!, 'is your code.');
  });

test('preview needs no more than the channels, and names what is wrong with them', async () => {
  const simple = await runCommand(['preview', 'login', 'en', '--text'], {});
  assert.is(simple.out, 'console, in the default language\n'
    + '123456 is your code. It works for 5 minutes. Never share it with anyone.\n\n');
  const wrong = await runCommand(['preview', 'login', 'en', '--text'],
    { ...ALL, SMS_TOKEN: '', MESSAGES_BRAND: 'x'.repeat(61) });
  assert.is(wrong.status, 1);
  assert.match(wrong.err, /SMS_TOKEN[^]*MESSAGES_BRAND must be/);
  for (const [parameters, rule] of [
    [['other', 'de'], /PURPOSE must be one of allowed_purposes/],
    [['login', 'd e'], /LOCALE must be a language tag such as de/],
    [['login'], /preview takes: PURPOSE LOCALE/],
  ] as const) {
    const { status, err } = await runCommand(['preview', ...parameters], ALL);
    assert.is(status, 2);
    assert.match(err, rule);
  }
});

test.run();
