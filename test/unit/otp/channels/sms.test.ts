/** The SMS channel: settings, requests and results. */
import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Channel } from '../../../../src/otp/channels/channel.ts';
import type { PostBounds } from '../../../../src/otp/channels/http-client.ts';
import { createSmsChannel, parseSmsSettings } from '../../../../src/otp/channels/sms.ts';
import type { SmsValues } from '../../../../src/otp/channels/sms.ts';
import {
  answer, cutAfterHead, cutBeforeHead, endless, hang, hangAfterHead, redirect, tooMany,
} from '../../../harness/http-sink.ts';
import type { Behaviour, HttpSink, Received } from '../../../harness/http-sink.ts';
import { closing, endAll, newMessage, SENT_AT, startSink, TEMPLATES } from './fixture.ts';

const ACCOUNT = `AC${randomBytes(16).toString('hex')}`;
const TOKEN = randomBytes(16).toString('hex');
const SERVICE = `MG${randomBytes(16).toString('hex')}`;
const RIGHT: SmsValues = {
  account: ACCOUNT, token: TOKEN, sender: '+14155550100', baseUrl: undefined, statusUrl: undefined,
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

test('a message goes to the number that its request names', async () => {
  const sink = await startSink({ behaviour: answer(201) });
  const message = newMessage({ userId: 'U1', to: '+4917012345' });
  await channelTo({ baseUrl: sink.url }).send(message, SENT_AT);
  assert.is(lastOf(sink).form.To, '+4917012345');
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

test('a gateway learns where to report only if otpd has a public URL', async () => {
  const sink = await startSink();
  const without = channelTo({ baseUrl: sink.url });
  assert.is(without.readReport, undefined);
  await without.send(newMessage(), SENT_AT, '/sms/status/a/b/c');
  assert.is(lastOf(sink).form.StatusCallback, undefined);
  for (const base of ['https://otp.example.com', 'https://otp.example.com/']) {
    await channelTo({ baseUrl: sink.url, statusUrl: base })
      .send(newMessage(), SENT_AT, '/sms/status/a/b/c');
    assert.is(lastOf(sink).form.StatusCallback, 'https://otp.example.com/sms/status/a/b/c');
  }
  for (const wrong of ['http://otp.example.com', 'otp.example.com', 'https://u:p@a.example',
    'https://a.example/?q', 'https://a.example/#f']) {
    assert.is(errorsOf({ statusUrl: wrong }).length, 1, wrong);
    assert.match(errorsOf({ statusUrl: wrong })[0]!, /^SMS_STATUS_URL must /);
  }
});

/** [form, kind, reason] */
const REPORTS: [string, string, string?][] = [
  ['MessageStatus=undelivered&ErrorCode=30003&MessageSid=S', 'failed', 'undelivered, error 30003'],
  ['MessageStatus=failed', 'failed', 'failed'],
  ['SmsStatus=FAILED&ErrorCode=30007', 'failed', 'failed, error 30007'],
  ['MessageStatus=canceled', 'failed', 'canceled'],
  ['MessageStatus=failed&ErrorCode=736581', 'failed', 'failed'],
  ['MessageStatus=failed&ErrorCode=%3Cb%3Esecret', 'failed', 'failed'],
  ...['queued', 'sending', 'sent', 'delivered', 'read', 'x', '736581']
    .map((state): [string, string] => [`MessageStatus=${state}`, 'other']),
  ['', 'malformed'], ['MessageStatus=', 'malformed'], ['{"MessageStatus":"failed"}', 'malformed'],
  ['%', 'malformed'],
];

test('a report says failed, something else, or nothing', () => {
  const { readReport } = channelTo({ statusUrl: 'https://otp.example.com' });
  for (const [form, kind, reason] of REPORTS) {
    const expected = reason === undefined ? { kind } : { kind, reason };
    assert.equal(readReport!(form), expected, form);
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
      [answer(201, {}, JSON.stringify({ status: echo, error_code: echo })),
        '{"kind":"refused","reason":"status 201, failed"}'],
      [answer(201, {}, JSON.stringify({ status: 'failed', error_code: 987654 })),
        '{"kind":"refused","reason":"status 201, failed"}'],
      [answer(400, { 'X-Error': echo }, error),
        '{"kind":"refused","reason":"status 400, error 21610"}'],
      [answer(400, {}, JSON.stringify({ code: echo })), '{"kind":"refused","reason":"status 400"}'],
      [answer(401, {}, error), '{"kind":"denied","reason":"status 401","afterSeconds":null}'],
      [redirect(`${sink.url}/${message.code}`),
        '{"kind":"denied","reason":"status 307","afterSeconds":null}'],
      [tooMany(1), '{"kind":"retry","reason":"status 429","afterSeconds":1}'],
      [answer(503, {}, '{}'), '{"kind":"retry","reason":"status 503","afterSeconds":null}'],
      [cutBeforeHead, '{"kind":"retry","reason":"ECONNRESET","afterSeconds":null}'],
    ];
    for (const [behaviour, expected] of rows) {
      sink.cutAll();
      sink.behaveNext(behaviour);
      assert.is(JSON.stringify(await channel.send(message, SENT_AT)), expected);
    }
  });

const accepted = 'accepted';

/** [status, body, the kind of the result, its reason] */
const ANSWERS: [number, unknown, string, string?][] = [
  [201, { sid: 'SM1', status: 'queued', error_code: null }, accepted],
  [200, { status: 'sent', error_code: 0 }, accepted],
  [201, { status: 'delivered' }, accepted],
  [201, {}, accepted],
  [201, [], accepted],
  [201, null, accepted],
  [201, '', accepted],
  [202, 'OK', accepted],
  [204, '', accepted],
  [201, '{"status":"failed"', accepted],
  [201, { status: 'failed', error_code: 30007 }, 'refused', 'status 201, error 30007'],
  [201, { status: 'failed', error_code: null }, 'refused', 'status 201, failed'],
  [200, { status: 'Undelivered' }, 'refused', 'status 200, failed'],
  [201, { status: 'canceled' }, 'refused', 'status 201, failed'],
  [201, { status: 'queued', error_code: '30003' }, 'refused', 'status 201, error 30003'],
  [201, { Status: 'failed', ErrorCode: 30005 }, 'refused', 'status 201, error 30005'],
  [201, { status: 'queued', error_code: 99999 }, 'refused', 'status 201, error 99999'],
  [201, { status: 'failed', error_code: 30002 }, 'denied', 'status 201, error 30002'],
  [201, { status: 'failed', error_code: 30001 }, 'retry', 'status 201, error 30001'],
  [200, { code: 21211, message: 'invalid', status: 400 }, 'refused', 'status 400, error 21211'],
  [200, { code: 20003, status: 401 }, 'denied', 'status 401'],
  [200, { status: '503' }, 'retry', 'status 503'],
  [201, '\ufeff{"status":"failed"}', 'refused', 'status 201, failed'],
  [200, '<!DOCTYPE html><title>Welcome</title>', 'denied', 'status 200, a web page'],
  [200, '\n <html lang="en">', 'denied', 'status 200, a web page'],
  [400, { code: 21211, status: 400 }, 'refused', 'status 400, error 21211'],
  [400, { code: 99999 }, 'refused', 'status 400, error 99999'],
  [400, { message: 'no such number' }, 'refused', 'status 400'],
  [400, { status: 'failed' }, 'refused', 'status 400'],
  [422, '<html>', 'refused', 'status 422'],
  [400, { code: 21606 }, 'denied', 'status 400, error 21606'],
  [400, { code: 20003 }, 'denied', 'status 400, error 20003'],
  [400, { code: 21611 }, 'retry', 'status 400, error 21611'],
  [401, { code: 21211 }, 'denied', 'status 401'],
  [402, {}, 'denied', 'status 402'],
  [403, { code: 20403 }, 'denied', 'status 403, error 20403'],
  [403, { code: 21610 }, 'refused', 'status 403, error 21610'],
  [404, { code: 20404, status: 404 }, 'denied', 'status 404, error 20404'],
  [429, { code: 20429 }, 'retry', 'status 429, error 20429'],
  [500, { code: 20500 }, 'retry', 'status 500, error 20500'],
];

test('a message is accepted, and refused for good, only if the gateway says so of it', async () => {
  const sink = await startSink();
  const channel = channelTo({ baseUrl: sink.url });
  for (const [status, body, kind, reason] of ANSWERS) {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    for (const type of ['application/json', 'text/html', undefined]) {
      sink.behaveNext(answer(status, type === undefined ? {} : { 'Content-Type': type }, text));
      const result = await channel.send(newMessage(), SENT_AT);
      const found = 'reason' in result ? [result.kind, result.reason] : [result.kind, undefined];
      assert.equal(found, [kind, reason], `${status} ${text}`);
    }
  }
});

const FAILED = JSON.stringify({ status: 'failed', error_code: 30007 });

/** Sends the head of a 201 with a report of a failure that is never complete. */
function incomplete(end: (response: ServerResponse) => void): Behaviour {
  return (response) => {
    response.writeHead(201, { 'Content-Length': 1000 });
    response.write(FAILED, () => end(response));
  };
}

test('a body that is slow, cut off or too long leaves the result to the status', async () => {
  const sink = await startSink();
  const channel = channelTo({ baseUrl: sink.url }, { timeoutMs: 2000 });
  const rows: [Behaviour, string][] = [
    [incomplete(() => {}), 'accepted'],
    [incomplete((response) => { response.destroy(); }), 'accepted'],
    [endless(201), 'accepted'],
    [answer(201, {}, FAILED + ' '.repeat(16 * 1024)), 'accepted'],
    [answer(201, {}, FAILED.padEnd(16 * 1024)), 'refused'],
    [endless(404), 'denied'],
    [endless(503), 'retry'],
    [cutAfterHead(400), 'refused'],
    [hangAfterHead(403), 'denied'],
  ];
  for (const [behaviour, kind] of rows) {
    sink.behaveNext(behaviour);
    assert.is((await channel.send(newMessage(), SENT_AT)).kind, kind);
  }
  await sink.waitForConnections(1);
});

test('a slow body within the timeout counts', async () => {
  const sink = await startSink();
  sink.behaveNext((response) => {
    response.writeHead(201).write(FAILED.slice(0, 10));
    setTimeout(() => response.end(FAILED.slice(10)), 20);
  });
  assert.equal(await channelTo({ baseUrl: sink.url }).send(newMessage(), SENT_AT),
    { kind: 'refused', reason: 'status 201, error 30007' });
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
