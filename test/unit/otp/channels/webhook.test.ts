/** The webhook channel: requests, signatures as the reference library verifies them, results. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Webhook } from 'standardwebhooks';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Channel, Message, Templates } from '../../../../src/otp/channels/channel.ts';
import type { PostBounds } from '../../../../src/otp/channels/http-client.ts';
import { parseWebhookSettings } from '../../../../src/otp/channels/webhook-settings.ts';
import { createWebhookChannel } from '../../../../src/otp/channels/webhook.ts';
import { createCertificate } from '../../../harness/certificate.ts';
import { answer, cutBeforeHead, hang, redirect, tooMany } from '../../../harness/http-sink.ts';
import type { Behaviour, HttpSink, Received } from '../../../harness/http-sink.ts';
import {
  atEnd, closing, endAll, newMessage, newWebhookSecret, SENT_AT, startSink, TEMPLATES,
} from './fixture.ts';

type Given = Readonly<{ secrets?: string; caFile?: string; templates?: Templates }> & PostBounds;

function channelTo(url: string, given: Given = {}): Channel {
  const { secrets = newWebhookSecret(), caFile, templates = TEMPLATES, ...bounds } = given;
  const parsed = parseWebhookSettings({ url: `${url}/otp`, secrets, allowHttp: undefined, caFile });
  if ('errors' in parsed) throw new Error(parsed.errors.join('; '));
  return closing(createWebhookChannel(parsed.settings, templates, bounds));
}

/** The last request at the sink, with its headers in the type that verifiers take. */
function lastOf(sink: HttpSink): Received & { signed: Record<string, string> } {
  const received = sink.requests.at(-1);
  if (received === undefined) throw new Error('no request came');
  return { ...received, signed: received.headers as Record<string, string> };
}

/** Verifiers refuse timestamps that differ much from their clock. */
function now(): number {
  return Date.now() * 1000;
}

test('a message is a request of Standard Webhooks', async () => {
  const sink = await startSink();
  const message = newMessage({ userId: 'U1 "ü"', locale: 'pt-br' });
  assert.equal(await channelTo(sink.url).send(message, SENT_AT), { kind: 'accepted' });
  const { method, path, headers, body } = lastOf(sink);
  assert.is(`${method} ${path}`, 'POST /otp');
  assert.is(headers['content-type'], 'application/json');
  assert.is(headers['user-agent'], 'otpd');
  assert.is(headers['webhook-id'], message.otpId);
  assert.is(headers['webhook-timestamp'], '1767600000');
  assert.match(headers['webhook-signature'] as string, /^v1,[A-Za-z0-9+/]{43}=$/);
  assert.equal(JSON.parse(body), {
    type: 'otp.issued',
    timestamp: '2026-01-05T08:00:00.123Z',
    data: {
      otp_id: message.otpId,
      user_id: 'U1 "ü"',
      purpose: 'login',
      code: message.code,
      locale: 'pt-br',
      expires_at: '2026-01-05T08:05:00.123Z',
      text: TEMPLATES.text(message),
    },
  });
});

test('a receiver learns where the message goes, next to the user', async () => {
  const sink = await startSink();
  const channel = channelTo(sink.url);
  await channel.send(newMessage({ userId: 'U1', to: '+14155550123' }), SENT_AT);
  const { data } = JSON.parse(lastOf(sink).body);
  assert.equal([data.user_id, data.to], ['U1', '+14155550123']);
  await channel.send(newMessage({ to: null, channel: 'webhook' }), SENT_AT);
  assert.not.ok('to' in JSON.parse(lastOf(sink).body).data);
});

test('the locale is null for the default language', async () => {
  const sink = await startSink();
  await channelTo(sink.url).send(newMessage(), SENT_AT);
  assert.is(JSON.parse(lastOf(sink).body).data.locale, null);
});

test('the channel accepts every user', () => {
  const channel = channelTo('https://hooks.example');
  assert.is(channel.name, 'webhook');
  assert.is(channel.addressFormat, null);
  for (const userId of ['U1', '+14155550123', 'ü', ' ']) assert.ok(channel.accepts(userId));
});

test('the reference library verifies the signature, and rejects any change', async () => {
  const sink = await startSink();
  const secret = newWebhookSecret();
  const verifier = new Webhook(secret);
  const message = newMessage();
  await channelTo(sink.url, { secrets: secret }).send(message, now());
  const { body, signed } = lastOf(sink);
  assert.equal(verifier.verify(body, signed), JSON.parse(body));

  const later = String(Number(signed['webhook-timestamp']) + 1);
  const tampered: [string, Record<string, string>][] = [
    [body.replace(message.code, '0'.repeat(10)), signed],
    [`${body} `, signed],
    [body, { ...signed, 'webhook-timestamp': later }],
    [body, { ...signed, 'webhook-id': '0'.repeat(32) }],
  ];
  for (const [text, headers] of tampered) {
    assert.throws(() => verifier.verify(text, headers), /No matching signature/);
  }
  assert.throws(() => new Webhook(newWebhookSecret()).verify(body, signed), /No matching/);
});

test('both of two secrets sign, the current one first',
  async () => {
    const sink = await startSink();
    const [current, old] = [newWebhookSecret(24), newWebhookSecret(64)];
    await channelTo(sink.url, { secrets: `${current}, ${old}` }).send(newMessage(), now());
    const { body, signed } = lastOf(sink);
    assert.match(signed['webhook-signature']!, /^v1,\S+ v1,\S+$/);
    for (const secret of [current, old]) {
      assert.equal(new Webhook(secret).verify(body, signed), JSON.parse(body));
      assert.throws(() => new Webhook(secret).verify(`${body} `, signed), /No matching/);
    }
    const [first = ''] = signed['webhook-signature']!.split(' ');
    const onlyFirst = { ...signed, 'webhook-signature': first };
    assert.equal(new Webhook(current).verify(body, onlyFirst), JSON.parse(body));
    assert.throws(() => new Webhook(old).verify(body, onlyFirst), /No matching/);
  });

test('a retry has the same id and a new timestamp', async () => {
  const sink = await startSink();
  const channel = channelTo(sink.url);
  const message = newMessage();
  sink.behaveNext(answer(503));
  assert.is((await channel.send(message, SENT_AT)).kind, 'retry');
  assert.is((await channel.send(message, SENT_AT + 1_000_000)).kind, 'accepted');
  const [first, second] = sink.requests.map(({ headers }) => headers);
  assert.is(first?.['webhook-id'], message.otpId);
  assert.is(second?.['webhook-id'], message.otpId);
  assert.is(second?.['webhook-timestamp'], '1767600001');
  assert.is.not(first?.['webhook-signature'], second?.['webhook-signature']);
});

test('a result quotes neither the response of a receiver nor the message',
  async () => {
    const sink = await startSink();
    const secrets = newWebhookSecret();
    const message = newMessage();
    const echo = `${secrets} ${JSON.stringify(message)}`;
    const channel = channelTo(sink.url, { secrets });
    const rows: [Behaviour, string][] = [
      [answer(204), '{"kind":"accepted"}'],
      [answer(400, { 'X-Error': echo }, echo), '{"kind":"refused","reason":"status 400"}'],
      [answer(422, {}, echo), '{"kind":"refused","reason":"status 422"}'],
      [answer(410, {}, echo), '{"kind":"denied","reason":"status 410","afterSeconds":null}'],
      [redirect(`${sink.url}/${message.code}`),
        '{"kind":"denied","reason":"status 307","afterSeconds":null}'],
      [tooMany(30), '{"kind":"retry","reason":"status 429","afterSeconds":30}'],
      [tooMany(echo), '{"kind":"retry","reason":"status 429","afterSeconds":null}'],
      [answer(500, {}, echo), '{"kind":"retry","reason":"status 500","afterSeconds":null}'],
      [(response) => { response.writeHead(502, echo).end(echo); },
        '{"kind":"retry","reason":"status 502","afterSeconds":null}'],
      [({ socket }) => { socket?.end(`${echo}\r\n\r\n`); },
        '{"kind":"retry","reason":"HPE_INVALID_CONSTANT","afterSeconds":null}'],
      [cutBeforeHead, '{"kind":"retry","reason":"ECONNRESET","afterSeconds":null}'],
    ];
    for (const [behaviour, expected] of rows) {
      sink.cutAll();
      sink.behaveNext(behaviour);
      assert.is(JSON.stringify(await channel.send(message, SENT_AT)), expected);
    }
  });

test('an exception in a template is a retry that does not quote the exception', async () => {
  const sink = await startSink();
  const templates: Templates = {
    ...TEMPLATES,
    text: ({ code }: Message) => { throw new RangeError(`no word for ${code}`); },
  };
  assert.equal(await channelTo(sink.url, { templates }).send(newMessage(), SENT_AT),
    { kind: 'retry', reason: 'RangeError', afterSeconds: null });
  assert.equal(await channelTo(sink.url).send(newMessage(), NaN),
    { kind: 'retry', reason: 'RangeError', afterSeconds: null });
  assert.is(sink.requests.length, 0);
});

test('a self-signed certificate is accepted with WEBHOOK_CA only', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-webhook-'));
  atEnd(() => rmSync(folder, { recursive: true }));
  const tls = createCertificate();
  const caFile = join(folder, 'ca.pem');
  writeFileSync(caFile, tls.cert);
  const sink = await startSink({ tls });
  assert.equal(await channelTo(sink.url).send(newMessage(), SENT_AT),
    { kind: 'retry', reason: 'DEPTH_ZERO_SELF_SIGNED_CERT', afterSeconds: null });
  assert.equal(await channelTo(sink.url, { caFile }).send(newMessage(), SENT_AT),
    { kind: 'accepted' });
});

test('a receiver that does not respond is a retry', async () => {
  const sink = await startSink({ behaviour: hang });
  assert.equal(await channelTo(sink.url, { timeoutMs: 60 }).send(newMessage(), SENT_AT),
    { kind: 'retry', reason: 'ETIMEDOUT', afterSeconds: null });
});

test('close aborts requests in flight', async () => {
  const sink = await startSink({ behaviour: hang });
  const channel = channelTo(sink.url);
  const result = channel.send(newMessage(), SENT_AT);
  await sink.waitFor(1);
  channel.close();
  assert.equal(await result, { kind: 'retry', reason: 'ECANCELED', afterSeconds: null });
  await sink.waitForConnections(0);
});

test.after(endAll);
test.run();
