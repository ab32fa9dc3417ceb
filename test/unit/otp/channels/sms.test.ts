/** The SMS channel: settings, requests and results. */
import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Channel } from '../../../../src/otp/channels/channel.ts';
import type { PostBounds } from '../../../../src/otp/channels/http-client.ts';
import { createSmsChannel, parseSmsSettings } from '../../../../src/otp/channels/sms.ts';
import type { SmsValues } from '../../../../src/otp/channels/sms.ts';
import { answer, cutBeforeHead, hang, redirect, tooMany } from '../../../harness/http-sink.ts';
import type { Behaviour, HttpSink, Received } from '../../../harness/http-sink.ts';
import { closing, endAll, newMessage, SENT_AT, startSink, TEMPLATES } from './fixture.ts';

const ACCOUNT = `AC${randomBytes(16).toString('hex')}`;
const TOKEN = randomBytes(16).toString('hex');
const SERVICE = `MG${randomBytes(16).toString('hex')}`;
const RIGHT: SmsValues = {
  account: ACCOUNT, token: TOKEN, sender: '+14155550100', baseUrl: undefined,
};

function errorsOf(values: Partial<SmsValues>): string[] {
  const parsed = parseSmsSettings({ ...RIGHT, ...values });
  return 'errors' in parsed ? parsed.errors : [];
}

function channelTo(values: Partial<SmsValues>, bounds: PostBounds = {}): Channel {
  const parsed = parseSmsSettings({ ...RIGHT, ...values });
  if ('errors' in parsed) throw new Error(parsed.errors.join('; '));
  return closing(createSmsChannel(parsed.settings, TEMPLATES, bounds));
}

function lastOf(sink: HttpSink): Received & { form: Record<string, string> } {
  const received = sink.requests.at(-1);
  if (received === undefined) throw new Error('no request came');
  return { ...received, form: Object.fromEntries(new URLSearchParams(received.body)) };
}

test('a message is a request of the Messages API', async () => {
  const sink = await startSink({ behaviour: answer(201) });
  const message = newMessage();
  const channel = channelTo({ baseUrl: sink.url });
  assert.equal(await channel.send(message, SENT_AT), { kind: 'accepted' });
  const { method, path, headers, form } = lastOf(sink);
  assert.is(`${method} ${path}`, `POST /2010-04-01/Accounts/${ACCOUNT}/Messages.json`);
  assert.is(headers['content-type'], 'application/x-www-form-urlencoded');
  assert.is(headers['idempotency-key'], message.otpId);
  assert.is(headers['user-agent'], 'otpd');
  const [scheme, credentials = ''] = headers.authorization?.split(' ') ?? [];
  assert.is(scheme, 'Basic');
  assert.is(Buffer.from(credentials, 'base64').toString(), `${ACCOUNT}:${TOKEN}`);
  assert.equal(form, { To: '+14155550123', From: '+14155550100', Body: TEMPLATES.text(message) });
});

test('a messaging service is sent as MessagingServiceSid', async () => {
  const sink = await startSink();
  for (const sender of [SERVICE, '12345', 'MG Bank']) {
    await channelTo({ baseUrl: sink.url, sender }).send(newMessage(), SENT_AT);
    const { form } = lastOf(sink);
    assert.is(form.MessagingServiceSid, sender === SERVICE ? SERVICE : undefined);
    assert.is(form.From, sender === SERVICE ? undefined : sender);
  }
});

test('the path of a gateway comes before the path of the API', async () => {
  const sink = await startSink();
  for (const path of ['', '/', '/gateway', '/gateway/']) {
    await channelTo({ baseUrl: `${sink.url}${path}` }).send(newMessage(), SENT_AT);
    const prefix = path.replace(/\/$/, '');
    assert.is(lastOf(sink).path, `${prefix}/2010-04-01/Accounts/${ACCOUNT}/Messages.json`);
  }
});

test('the channel accepts phone numbers only', () => {
  const channel = channelTo({});
  assert.is(channel.name, 'sms');
  assert.is(channel.addressFormat, 'a phone number such as +14155550123');
  for (const userId of ['+14155550123', '+1234567', '+123456789012345']) {
    assert.is(channel.accepts(userId), true, userId);
  }
  for (const userId of ['14155550123', '+04155550123', '+123456', '+1234567890123456', '+1415555O1',
    '+1 4155550123', ' +14155550123', '+14155550123\n', '+14155550123,+14155550124', '', 'U1']) {
    assert.is(channel.accepts(userId), false, userId);
  }
});

test('a result quotes neither the response of a gateway nor the message',
  async () => {
    const sink = await startSink();
    const message = newMessage();
    const echo = `${ACCOUNT} ${TOKEN} ${JSON.stringify(message)}`;
    const error = JSON.stringify({ code: 21610, message: echo, status: 400 });
    const channel = channelTo({ baseUrl: sink.url });
    const rows: [Behaviour, string][] = [
      [answer(201, {}, echo), '{"kind":"accepted"}'],
      [answer(400, { 'X-Error': echo }, error), '{"kind":"refused","reason":"status 400"}'],
      [answer(401, {}, error), '{"kind":"retry","reason":"status 401","afterSeconds":null}'],
      [redirect(`${sink.url}/${message.code}`), '{"kind":"refused","reason":"status 307"}'],
      [tooMany(1), '{"kind":"retry","reason":"status 429","afterSeconds":1}'],
      [answer(503, {}, error), '{"kind":"retry","reason":"status 503","afterSeconds":null}'],
      [cutBeforeHead, '{"kind":"retry","reason":"ECONNRESET","afterSeconds":null}'],
    ];
    for (const [behaviour, expected] of rows) {
      sink.cutAll();
      sink.behaveNext(behaviour);
      assert.is(JSON.stringify(await channel.send(message, SENT_AT)), expected);
    }
  });

test('a gateway that does not respond is a retry', async () => {
  const sink = await startSink({ behaviour: hang });
  const channel = channelTo({ baseUrl: sink.url }, { timeoutMs: 60 });
  assert.equal(await channel.send(newMessage(), SENT_AT),
    { kind: 'retry', reason: 'ETIMEDOUT', afterSeconds: null });
});

test('close aborts requests in flight', async () => {
  const sink = await startSink({ behaviour: hang });
  const channel = channelTo({ baseUrl: sink.url });
  const result = channel.send(newMessage(), SENT_AT);
  await sink.waitFor(1);
  channel.close();
  assert.equal(await result, { kind: 'retry', reason: 'ECANCELED', afterSeconds: null });
});

test('the default gateway is Twilio', () => {
  const parsed = parseSmsSettings(RIGHT);
  assert.ok('settings' in parsed);
  if (!('settings' in parsed)) return;
  const { settings } = parsed;
  assert.is(settings.baseUrl.href, 'https://api.twilio.com/');
  assert.is(settings.account, ACCOUNT);
  assert.is(settings.token, TOKEN);
  assert.is(settings.sender, '+14155550100');
  assert.ok(Object.isFrozen(settings));
});

/** [values, the variable with the error] */
const ERRORS: [Partial<SmsValues>, string][] = [
  [{ account: undefined }, 'SMS_ACCOUNT'],
  [{ account: 'AC/../x' }, 'SMS_ACCOUNT'],
  [{ account: 'a:b' }, 'SMS_ACCOUNT'],
  [{ account: 'a'.repeat(65) }, 'SMS_ACCOUNT'],
  [{ token: undefined }, 'SMS_TOKEN'],
  [{ token: 'a b' }, 'SMS_TOKEN'],
  [{ token: 'ü' }, 'SMS_TOKEN'],
  [{ sender: undefined }, 'SMS_SENDER'],
  [{ sender: '4155550100a4155550100' }, 'SMS_SENDER'],
  [{ sender: 'ElevenChars1' }, 'SMS_SENDER'],
  [{ sender: '+0123' }, 'SMS_SENDER'],
  [{ sender: `${SERVICE}0` }, 'SMS_SENDER'],
  [{ baseUrl: 'api.twilio.com' }, 'SMS_BASE_URL'],
  [{ baseUrl: 'http://gateway.internal' }, 'SMS_BASE_URL'],
  [{ baseUrl: 'https://gateway.example/?a=b' }, 'SMS_BASE_URL'],
  [{ baseUrl: `https://${ACCOUNT}:${TOKEN}@gateway.example/` }, 'SMS_BASE_URL'],
  [{ baseUrl: 'https://gateway.example/#' }, 'SMS_BASE_URL'],
];

for (const [values, variable] of ERRORS) {
  test(`an invalid setting is an error: ${JSON.stringify(values).replace(TOKEN, '…')}`, () => {
    const errors = errorsOf(values);
    assert.is(errors.length, 1);
    assert.match(errors[0]!, new RegExp(`^${variable} must `));
    assert.not.match(errors[0]!, TOKEN);
  });
}

test('every error is reported at once, without a secret', () => {
  const token = `${TOKEN} ${TOKEN}`;
  const errors = errorsOf({ account: '', token, sender: 'Eleven_and_more', baseUrl: 'x' });
  assert.equal(errors.map((error) => /^SMS_[A-Z_]+/.exec(error)?.[0]),
    ['SMS_ACCOUNT', 'SMS_TOKEN', 'SMS_SENDER', 'SMS_BASE_URL']);
  assert.not.match(errors.join('\n'), TOKEN);
});

test.after(endAll);
test.run();
