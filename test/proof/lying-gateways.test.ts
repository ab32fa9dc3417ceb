/**
 * SMS gateways that lie, stall and break off in front of a real otpd: the status of an OTP is never
 * `sent` after a reported failure, and a fault of the account never closes an OTP.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient, post, send } from '../harness/client.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { parseExposition, valueOf } from '../harness/exposition.ts';
import {
  answer, cutAfterHead, cutBeforeHead, endless, hangAfterHead, redirect, slow, startHttpSink,
} from '../harness/http-sink.ts';
import type { Behaviour, HttpSink } from '../harness/http-sink.ts';
import { recordCode } from '../harness/leak-recorder.ts';
import { startOtpdOn, stopAllOtpd } from '../harness/otpd-on.ts';
import type { OtpdOptions } from '../harness/otpd-on.ts';
import type { Otpd } from '../harness/otpd.ts';
import { newSecretsText } from '../harness/service.ts';
import { eventually } from '../harness/waiting.ts';
import { decided, fresh } from './load.ts';
import { Provider } from './provider.ts';

let database: TestDatabase;
let gateway: HttpSink;
let provider: Provider;
let users = 0;

test.before(async () => {
  database = await createTestDatabase();
  provider = await Provider.start();
});
test.before.each(async () => { gateway = await startHttpSink(); });
test.after.each(async () => {
  await stopAllOtpd();
  for (const { body } of gateway.requests) {
    recordCode(/\d{6}/.exec(new URLSearchParams(body).get('Body') ?? '')![0]);
  }
  await gateway.close();
});
test.after(async () => {
  closeClient();
  await provider.close();
  database.close();
});

/** Starts otpd with these channels; each test has its own, because a pause outlives a message. */
function start(delivery: string, more: Readonly<Record<string, string>> = {}): Promise<Otpd> {
  const options: OtpdOptions = {
    settings: database.settings, secrets: newSecretsText(),
    webhookUrl: provider.urlFor('/otpd'), webhookSecrets: provider.secrets,
    environment: {
      DELIVERY: delivery, SMS_ACCOUNT: 'AC1', SMS_TOKEN: 'token', SMS_SENDER: 'otpd',
      SMS_BASE_URL: gateway.url, ADMIN_PORT: '0', ...more,
    },
  };
  return startOtpdOn(options);
}

async function request(
  { port }: Otpd,
  user = newUser(),
  purpose = 'login',
): Promise<Record<string, unknown>> {
  const body = { user_id: user, purpose };
  const key = fresh('k');
  const reply = await decided(() => post({ port, path: '/otp/request', body, key }));
  assert.is(reply.status, 201, reply.text);
  return reply.body;
}

function newUser(): string {
  users += 1;
  return `+1415555${String(users).padStart(4, '0')}`;
}

async function outcomeOf({ port }: Otpd, { otp_id: otpId }: Record<string, unknown>) {
  const { body } = await send({ method: 'GET', port, path: `/otp/${otpId}` });
  return `${body.status} by ${body.channel}`;
}

async function untilOutcome(otpd: Otpd, issued: Record<string, unknown>, expected: string) {
  await eventually(`the code is ${expected}`, async () =>
    await outcomeOf(otpd, issued) === expected);
}

async function denialsOf({ adminPort }: Otpd): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${adminPort}/metrics`)).text();
  return valueOf(parseExposition(text), 'otpd_deliveries_total',
    { channel: 'sms', result: 'denied' }) ?? 0;
}

const json = (status: number, body: unknown, type = 'application/json'): Behaviour =>
  answer(status, { 'Content-Type': type }, JSON.stringify(body));

/** [what the gateway does, its behaviour] */
const NOT_ACCEPTED: [string, Behaviour][] = [
  ['answers 201 failed', json(201, { status: 'failed', error_code: 30007 })],
  ['answers 200 undelivered as text', json(200, { status: 'undelivered' }, 'text/plain')],
  ['answers 201 with an error code', json(201, { status: 'queued', error_code: 30003 })],
  ['answers 201 failed slowly', slow(300, json(201, { status: 'failed' }))],
  ['answers 201 for a suspended account', json(201, { status: 'failed', error_code: 30002 })],
  ['answers 200 with a web page', answer(200, { 'Content-Type': 'text/html' }, '<!doctype html>')],
  ['answers 400 for the number', json(400, { code: 21211 })],
  ['answers 400 for the sender', json(400, { code: 21606 })],
  ['answers 401', answer(401)],
  ['answers 402', answer(402)],
  ['answers 403', answer(403)],
  ['answers 404', answer(404)],
  ['redirects', redirect('http://127.0.0.1:9/')],
  ['answers 404 without an end', endless(404)],
];

for (const [what, behaviour] of NOT_ACCEPTED) {
  test(`the next channel sends the message when the gateway ${what}`, async () => {
    const otpd = await start('sms,webhook');
    gateway.behave(behaviour);
    await untilOutcome(otpd, await request(otpd), 'sent by webhook');
    assert.is(gateway.requests.length, 1);
  });
}

/** [what the gateway does, its behaviour] */
const ACCEPTED: [string, Behaviour][] = [
  ['answers 201 queued', json(201, { status: 'queued', error_code: null })],
  ['answers 204', answer(204)],
  ['cuts the body of a 201', cutAfterHead(201)],
  ['stalls in the body of a 201', hangAfterHead(201)],
  ['answers 201 without an end', endless(201)],
];

for (const [what, behaviour] of ACCEPTED) {
  test(`a message is sent once when the gateway ${what}`, async () => {
    const otpd = await start('sms,webhook');
    gateway.behave(behaviour);
    await untilOutcome(otpd, await request(otpd), 'sent by sms');
    assert.is(gateway.requests.length, 1);
  });
}

test('a message that a gateway accepts and reports as failed closes the OTP with a refund',
  async () => {
    const otpd = await start('sms');
    gateway.behave(json(201, { status: 'failed', error_code: 30007 }));
    const user = newUser();
    const first = await request(otpd, user);
    await untilOutcome(otpd, first, 'failed by sms');
    const second = await request(otpd, user);
    assert.is(second.remaining_requests, first.remaining_requests);
  });

for (const status of [307, 401, 402, 403, 404]) {
  test(`a gateway that answers ${status} pauses the channel until it is cured, and closes no OTP`,
    async () => {
      const otpd = await start('sms');
      gateway.behave(answer(status));
      const issued = await Promise.all(Array.from({ length: 5 }, () => request(otpd)));
      await otpd.prints(`"event":"channel_paused","channel":"sms","reason":"status ${status}"`);
      await otpd.prints('"level":"error","event":"delivery_denied"');
      assert.ok(await denialsOf(otpd) >= 5);
      for (const each of issued) assert.is(await outcomeOf(otpd, each), 'pending by sms');
      gateway.behave(answer(201));
      for (const each of issued) await untilOutcome(otpd, each, 'sent by sms');
      await otpd.prints('"event":"channel_resumed"');
    });
}

test('a gateway gets the same text for every purpose, whatever a client calls it', async () => {
  const otpd = await start('sms');
  const purposes = ['login', 'login. Confirm at evil.example/x?u=9 or call +1900555', '{code}',
    '\u202eevil', '<b>&amp;', '[{purpose}]', '€ł👍', ' '];
  for (const purpose of purposes) {
    await untilOutcome(otpd, await request(otpd, newUser(), purpose), 'sent by sms');
  }
  const texts = gateway.requests.map(({ body }) =>
    new URLSearchParams(body).get('Body')!.replace(/\d{6}/, 'CODE'));
  assert.is(texts.length, purposes.length);
  assert.equal([...new Set(texts)],
    ['CODE is your code. It works for 5 minutes. Never share it with anyone.']);
});

test('a webhook reaches a receiver that only the proxy knows', async () => {
  const url = provider.urlFor('');
  const otpd = await start('webhook', {
    WEBHOOK_URL: 'http://receiver.internal/otpd', WEBHOOK_ALLOW_HTTP: '1', HTTP_PROXY: url,
  });
  const issued = await request(otpd);
  await untilOutcome(otpd, issued, 'sent by webhook');
  const [call] = provider.callsOf(issued.otp_id);
  assert.is(call?.sender, 'http://receiver.internal/otpd');
});

test('a connection that breaks before the response leads to a second attempt', async () => {
  const otpd = await start('sms');
  gateway.behaveNext(cutBeforeHead);
  await untilOutcome(otpd, await request(otpd), 'sent by sms');
  assert.is(gateway.requests.length, 2);
  const [first, second] = gateway.requests.map(({ headers }) => headers['idempotency-key']);
  assert.is(first, second);
});

test.run();
