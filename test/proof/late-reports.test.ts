/**
 * An SMS gateway that accepts every message and reports later what became of it, in front of real
 * otpd processes.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient, post, send } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { parseExposition, valueOf } from '../harness/exposition.ts';
import { answer, startHttpSink } from '../harness/http-sink.ts';
import type { HttpSink } from '../harness/http-sink.ts';
import { recordCode } from '../harness/leak-recorder.ts';
import { startOtpdOn, stopAllOtpd } from '../harness/otpd-on.ts';
import type { Otpd } from '../harness/otpd.ts';
import { newSecretsText } from '../harness/service.ts';
import { eventually } from '../harness/waiting.ts';
import { decided, fresh } from './load.ts';
import { Provider } from './provider.ts';

/** The path of SMS_STATUS_URL stands for a proxy that strips it. */
const PUBLIC_URL = 'https://otp.example.com/public/';
const SECRETS = newSecretsText();
const FAILED = 'MessageSid=SM1&MessageStatus=undelivered&ErrorCode=30003&To=%2B14155550001';

let database: TestDatabase;
let gateway: HttpSink;
let provider: Provider;
let users = 0;

test.before(async () => {
  database = await createTestDatabase();
  provider = await Provider.start();
  gateway = await startHttpSink({ behaviour: answer(201, {}, '{"status":"queued"}') });
});
test.after.each(stopAllOtpd);
test.after(async () => {
  closeClient();
  await provider.close();
  await gateway.close();
  database.close();
});

function start(delivery: string, more: Readonly<Record<string, string>> = {}): Promise<Otpd> {
  return startOtpdOn({
    settings: database.settings, secrets: SECRETS,
    webhookUrl: provider.urlFor('/otpd'), webhookSecrets: provider.secrets,
    environment: {
      DELIVERY: delivery, SMS_ACCOUNT: 'AC1', SMS_TOKEN: 'token', SMS_SENDER: 'otpd',
      SMS_BASE_URL: gateway.url, SMS_STATUS_URL: PUBLIC_URL, ADMIN_PORT: '0', ...more,
    },
  });
}

type Issued = Readonly<{ otpId: string; user: string; code: string; path: string; left: unknown }>;

/** Requests a code; the gateway has accepted its message. */
async function issue({ port }: Otpd, user = newUser()): Promise<Issued> {
  const body = { user_id: user, purpose: 'login' };
  const key = fresh('k');
  const reply = await decided(() => post({ port, path: '/otp/request', body, key }));
  assert.is(reply.status, 201, reply.text);
  const { otp_id: otpId, remaining_requests: left } = reply.body as Record<string, string>;
  await untilStatus({ port }, otpId!, 'sent by sms');
  const { body: sent } = gateway.requests.find(({ headers }) =>
    headers['idempotency-key'] === otpId)!;
  const form = new URLSearchParams(sent);
  const code = /\d{6}/.exec(form.get('Body')!)![0];
  recordCode(code);
  const url = form.get('StatusCallback')!;
  assert.ok(url.startsWith(`${PUBLIC_URL}sms/status/${otpId}/test/`), url);
  assert.not.ok(url.includes(code) || url.includes(user.slice(1)));
  return { otpId: otpId!, user, code, path: url.slice(PUBLIC_URL.length - 1), left };
}

function newUser(): string {
  users += 1;
  return `+1415555${String(users).padStart(4, '0')}`;
}

function report({ port }: Otpd, { path }: Pick<Issued, 'path'>, body = FAILED): Promise<Reply> {
  const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
  return post({ port, path, body, headers });
}

async function statusOf({ port }: Pick<Otpd, 'port'>, otpId: string): Promise<string> {
  const { body } = await send({ method: 'GET', port, path: `/otp/${otpId}` });
  return `${body.status} by ${body.channel}`;
}

function untilStatus(otpd: Pick<Otpd, 'port'>, otpId: string, expected: string): Promise<void> {
  return eventually(`the code is ${expected}`, async () =>
    await statusOf(otpd, otpId) === expected);
}

async function verify({ port }: Otpd, { user, code }: Issued): Promise<number> {
  const body = { user_id: user, purpose: 'login', code };
  return (await post({ port, path: '/otp/verify', body })).status;
}

test('steps on the way and a delivery change nothing', async () => {
  const otpd = await start('sms,webhook');
  const issued = await issue(otpd);
  for (const status of ['queued', 'sending', 'sent', 'delivered']) {
    assert.is((await report(otpd, issued, `MessageStatus=${status}`)).status, 204);
  }
  assert.is(await statusOf(otpd, issued.otpId), 'sent by sms');
  assert.is(await verify(otpd, issued), 200);
});

test('a message that the gateway could not deliver is sent by the next channel, once', async () => {
  const otpd = await start('sms,webhook', { WORKERS: '2' });
  const issued = await issue(otpd);
  const replies = await Promise.all(Array.from({ length: 20 }, () => report(otpd, issued)));
  assert.equal([...new Set(replies.map(({ status }) => status))], [204]);
  await untilStatus(otpd, issued.otpId, 'sent by webhook');
  await Promise.all(Array.from({ length: 5 }, () => report(otpd, issued)));
  assert.equal(provider.callsOf(issued.otpId).map(({ code }) => code), [issued.code]);
  assert.is(await verify(otpd, issued), 200);
  await otpd.prints(/"event":"delivery_undelivered".*"reason":"undelivered, error 30003"/);
});

test('without another channel the OTP has failed, once, with its points refunded', async () => {
  const otpd = await start('sms');
  const issued = await issue(otpd);
  await Promise.all(Array.from({ length: 8 }, () => report(otpd, issued)));
  assert.is(await statusOf(otpd, issued.otpId), 'failed by sms');
  assert.is(await verify(otpd, issued), 410);
  assert.is((await issue(otpd, issued.user)).left, issued.left);
  const text = await (await fetch(`http://127.0.0.1:${otpd.adminPort}/metrics`)).text();
  const metrics = parseExposition(text);
  const labels = { channel: 'sms', result: 'undelivered' };
  assert.is(valueOf(metrics, 'otpd_deliveries_total', labels), 1);
  assert.is(valueOf(metrics, 'otpd_codes_failed_total', { reason: 'refused' }), 1);
});

test('a report about a redeemed or superseded code changes nothing', async () => {
  const otpd = await start('sms,webhook');
  const [used, old] = [await issue(otpd), await issue(otpd)];
  assert.is(await verify(otpd, used), 200);
  const newest = await issue(otpd, old.user);
  for (const [issued, status] of [[used, 'verified'], [old, 'superseded']] as const) {
    assert.is((await report(otpd, issued)).status, 204);
    assert.is(await statusOf(otpd, issued.otpId), `${status} by sms`);
  }
  assert.is(await verify(otpd, newest), 200);
  assert.equal([used, old].flatMap(({ otpId }) => provider.callsOf(otpId)), []);
});

test('a forged report is answered as an unknown path, and changes nothing', async () => {
  const otpd = await start('sms');
  const [one, other] = [await issue(otpd), await issue(otpd)];
  const [sealed, otherSealed] = [one, other].map(({ path }) => path.split('/').at(-1)!);
  const unknown = await report(otpd, { path: '/sms/statuses' });
  assert.is(unknown.status, 404);
  const swap = (text: string, at: number): string =>
    text.slice(0, at) + (text[at] === 'A' ? 'B' : 'A') + text.slice(at + 1);
  const forged = [one.path.replace(sealed!, otherSealed!),
    one.path.replace(one.otpId, other.otpId), one.path.replace('/test/', '/test2/'),
    one.path.slice(0, -4), ...[0, 20, 60, sealed!.length - 3].map((at) =>
      one.path.replace(sealed!, swap(sealed!, at)))];
  for (const path of forged) {
    const { status, text } = await report(otpd, { path });
    assert.equal([status, text], [404, unknown.text], path);
  }
  for (const { otpId } of [one, other]) assert.is(await statusOf(otpd, otpId), 'sent by sms');
});

test('a report counts as long as the secret of its message is configured', async () => {
  const first = await start('sms');
  const [early, late] = [await issue(first), await issue(first)];
  const newSecret = newSecretsText().replace('test:', 'new:');
  const rotated = await start('sms', { OTP_SECRETS: `${newSecret},${SECRETS}` });
  assert.is((await report(rotated, early)).status, 204);
  await untilStatus(first, early.otpId, 'failed by sms');
  const without = await start('sms', { OTP_SECRETS: newSecret });
  assert.is((await report(without, late)).status, 404);
  assert.is(await statusOf(first, late.otpId), 'sent by sms');
});

test('reports need no API key, and floods of forged ones are not logged one by one', async () => {
  const otpd = await start('sms', { API_KEYS: `app:request:${'0'.repeat(64)}` });
  const path = `/sms/status/${'0'.repeat(32)}/test/${'A'.repeat(100)}`;
  for (let times = 0; times < 40; times += 1) {
    const headers = { 'Content-Type': 'application/x-www-form-urlencoded',
      'X-Client-IP': `10.0.0.${times}` };
    assert.is((await post({ port: otpd.port, path, body: FAILED, headers })).status, 404);
  }
  await otpd.prints('"route":"/sms/status/{report}"');
  assert.is(otpd.output().split('"route":"/sms/status/{report}"').length - 1, 10);
  assert.not.ok(otpd.output().includes('AAAAAAAA'));
});

test.run();
