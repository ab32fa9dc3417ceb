/** client/index.js against a stand-in: outcomes, headers, repeats, and what no outcome shows. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createClient } from '../../../client/index.js';
import type { ClientOptions, VerifyCall } from '../../../client/index.js';
import { STATUS, SUPPORT_CODES } from '../../../src/http/response.ts';
import { freePort } from '../../harness/free-port.ts';
import {
  answer, cutAfterHead, cutBeforeHead, hang, redirect, startHttpSink,
} from '../../harness/http-sink.ts';
import type { Behaviour, HttpSink } from '../../harness/http-sink.ts';
import { errorOf, timed } from '../../harness/waiting.ts';

const LOGIN = { userId: 'U1', purpose: 'login' };
const CODE = '271828';
const ATTEMPT = { ...LOGIN, code: CODE };
const OTP_ID = '0123456789abcdef0123456789abcdef';
const TOKEN = 'k1.avm4EgEH-NVpW2-ev-PwO6YmCmgmI8dZlSlVFw';
const VERIFIED = answer(200, { 'X-Request-Id': 'r1' },
  '{"success":true,"message":"verification_successful"}');
const SENT = answer(201, {
  'X-Request-Id': 'r1', 'RateLimit': '"user";r=0;t=840, "ip";r=0;t=60, "net48";r=9;t=900',
}, JSON.stringify({ otp_id: OTP_ID, ttl: 300, remaining_requests: 0 }));

/** A wait beyond every deadline, so that the call is not repeated. */
const LATER = { 'Retry-After': '60' };

let sink: HttpSink;

// Each test has a stand-in of its own: the request of an aborted call may arrive late.
test.before.each(async () => { sink = await startHttpSink(); });
test.after.each(() => sink.close());

/** An error as otpd writes it. */
function error(status: number, code: string, members = {}, headers = {}): Behaviour {
  return answer(status, { 'Content-Type': 'application/json', ...headers },
    JSON.stringify({ error: code, ...members }));
}

function client(options: Partial<ClientOptions> = {}) {
  return createClient({ url: sink.url, ...options });
}

function verify(behaviour: Behaviour, call: Partial<VerifyCall> = {}) {
  sink.behave(behaviour);
  return client().verify({ ...ATTEMPT, ...call });
}

function keys(): unknown[] {
  return sink.requests.map(({ headers }) => headers['idempotency-key']);
}

test('a 201 becomes the outcome sent, with the wait for the next code', async () => {
  sink.behave(SENT);
  assert.equal(await client().request(LOGIN), {
    kind: 'sent', otpId: OTP_ID, ttl: 300, remainingRequests: 0, isReplay: false,
    nextCodeInSeconds: 840, requestId: 'r1',
  });
});

test('a 200 becomes the outcome verified, with the device token if there is one', async () => {
  assert.equal(await verify(VERIFIED),
    { kind: 'verified', device: null, isReplay: false, requestId: 'r1' });
  const replay = await verify(answer(200, { 'Otp-Device': TOKEN, 'Idempotent-Replayed': 'true' },
    '{"success":true,"message":"verification_successful"}'));
  assert.equal(replay, { kind: 'verified', device: TOKEN, isReplay: true, requestId: null });
});

/** The codes that a caller of the API can get; the others belong to the admin listener. */
const OTHERS: readonly string[] = ['not_ready', ...SUPPORT_CODES];
const ERRORS = Object.entries(STATUS).filter(([code, status]) =>
  status >= 400 && !OTHERS.includes(code));

const OWN_KIND: Readonly<Record<string, object>> = {
  invalid_code: { attemptsRemaining: 2 },
  too_many_attempts: { retryAfterSeconds: 600 },
  rate_limit_exceeded: { retryAfterSeconds: 180 },
  account_locked: {}, otp_not_found: {}, code_superseded: {}, code_used: {}, code_expired: {},
};

test('every error of the contract is one outcome, and none is unknown', async () => {
  const members = { attempts_remaining: 2, retry_after_seconds: 600,
    remaining_cooldown_seconds: 180 };
  for (const [code, status] of ERRORS) {
    const outcome = await verify(error(status, code, members, LATER));
    const known = OWN_KIND[code];
    if (known !== undefined) {
      assert.equal(outcome, { kind: code, ...known, requestId: null });
    } else if (status === 503 || status === 408) {
      assert.equal(outcome, {
        kind: 'unavailable', reason: code, retryAfterSeconds: 60, requestId: null,
      });
    } else {
      assert.equal(outcome, {
        kind: 'failed', status, error: code, field: null, message: null, requestId: null,
      });
    }
  }
  assert.ok(ERRORS.length > 20);
});

test('status and cancel give the outcomes of their paths', async () => {
  sink.behave(answer(200, {}, JSON.stringify({
    otp_id: OTP_ID, purpose: 'login', status: 'sent', channel: 'sms', created_at: 'c',
    expires_at: 'e',
  })));
  assert.equal(await client().status(OTP_ID), {
    kind: 'known', otpId: OTP_ID, purpose: 'login', status: 'sent', channel: 'sms',
    createdAt: 'c', expiresAt: 'e', requestId: null,
  });
  sink.behave(answer(204));
  assert.is((await client().cancel('a/b?c')).kind, 'canceled');
  sink.behave(error(410, 'code_used'));
  assert.is((await client().cancel(OTP_ID)).kind, 'code_used');
  sink.behave(error(404, 'otp_not_found'));
  assert.is((await client().status(OTP_ID)).kind, 'otp_not_found');
  assert.equal(sink.requests.map(({ method, path }) => `${method} ${path}`), [
    `GET /otp/${OTP_ID}`, 'DELETE /otp/a%2Fb%3Fc', `DELETE /otp/${OTP_ID}`, `GET /otp/${OTP_ID}`,
  ]);
});

test('a response that is not of otpd is unknown, and its text is not passed on', async () => {
  const texts = [CODE, `<p>${CODE}</p>`, `{"error":"no ${CODE}"}`, '{"error":7}', '[]', 'null', ''];
  for (const status of [200, 201, 400, 418, 500]) {
    for (const text of texts) {
      const outcome = await verify(answer(status, {}, text));
      assert.equal(outcome, { kind: 'unknown', status, error: null, requestId: null });
    }
  }
  const later = await verify(error(409, 'code_of_tomorrow', {}, LATER));
  assert.is(later.kind, 'unavailable');
  assert.equal(await verify(error(400, 'code_of_tomorrow')),
    { kind: 'unknown', status: 400, error: 'code_of_tomorrow', requestId: null });
  assert.equal(await verify(redirect(`${sink.url}/elsewhere`)),
    { kind: 'unknown', status: 307, error: null, requestId: null });
  assert.is(sink.requests.some(({ path }) => path === '/elsewhere'), false);
});

test('no outcome and no rejection shows the code, even if the answer repeats it', async () => {
  const members = { field: 'code', message: `${CODE} is not a code` };
  const failed = await verify(error(400, 'invalid_request', members));
  assert.equal(failed, { kind: 'failed', status: 400, error: 'invalid_request', field: 'code',
    message: null, requestId: null });
  const shown: unknown[] = [];
  for (const behaviour of [cutBeforeHead, cutAfterHead(), hang, answer(500, {}, CODE)]) {
    shown.push(await verify(behaviour, { deadlineMs: 60 }));
  }
  const badKey = await errorOf(verify(VERIFIED, { idempotencyKey: 'a\nb' }));
  shown.push(badKey.stack, (await errorOf(verify(hang, { signal: AbortSignal.timeout(5) }))).stack);
  assert.not.match(JSON.stringify(shown), CODE);
});

test('the members and headers of a call are those of the contract', async () => {
  sink.behave(SENT);
  const call = { ...LOGIN, to: '+491701234567', channel: 'sms', locale: 'de', clientIp: '2.2.2.2',
    idempotencyKey: 'k', devices: [TOKEN, 'a\r\nb', '', 'k1.short', ...Array(9).fill(TOKEN)] };
  await client({ apiKey: 'otpd_x', url: `${sink.url}/below` }).request(call);
  await client().request(call);
  await client().request(LOGIN);
  await client().verify({ ...ATTEMPT, otpId: OTP_ID });
  const [keyed, proxied, plain, bound] = sink.requests;
  assert.is(keyed?.path, '/below/otp/request');
  assert.equal(JSON.parse(keyed!.body), { user_id: 'U1', purpose: 'login', to: '+491701234567',
    channel: 'sms', locale: 'de' });
  assert.is(keyed?.headers.authorization, 'Bearer otpd_x');
  assert.equal([keyed?.headers['x-client-ip'], keyed?.headers['x-forwarded-for']],
    ['2.2.2.2', undefined]);
  assert.is(keyed?.headers['idempotency-key'], 'k');
  assert.is(keyed?.headers['content-type'], 'application/json');
  assert.equal(keyed?.headers['otp-device'], Array(8).fill(TOKEN).join(', '));
  assert.equal([proxied?.headers['x-client-ip'], proxied?.headers['x-forwarded-for']],
    [undefined, '2.2.2.2']);
  assert.is('authorization' in proxied!.headers, false);
  assert.is(plain?.body, '{"user_id":"U1","purpose":"login"}');
  assert.is('otp-device' in plain!.headers, false);
  assert.equal(JSON.parse(bound!.body),
    { user_id: 'U1', purpose: 'login', code: CODE, otp_id: OTP_ID });
  assert.is(new Set(keys()).size, 3);
});

test('503, 409, a proxy without otpd and broken connections are repeated under one key',
  async () => {
    sink.behaveNext(error(503, 'unavailable'), error(409, 'request_in_progress'),
      answer(502, {}, 'Bad Gateway'), cutBeforeHead, cutAfterHead(201));
    sink.behave(SENT);
    assert.is((await client().request(LOGIN)).kind, 'sent');
    assert.is(sink.requests.length, 6);
    assert.is(new Set(keys()).size, 1);
    assert.match(String(keys()[0]), /^[0-9a-f]{32}$/);
  });

test('no other answer is repeated', async () => {
  for (const behaviour of [error(500, 'internal'), error(401, 'invalid_code', {
    attempts_remaining: 1 }), error(429, 'too_many_attempts', { retry_after_seconds: 1 },
    { 'Retry-After': '1' }), error(401, 'unauthorized'), answer(404)]) {
    sink.requests.length = 0;
    await verify(behaviour);
    assert.is(sink.requests.length, 1);
  }
});

test('a verification is repeated once after a lost answer, so that one call cannot lock a pair',
  async () => {
    sink.behaveNext(cutBeforeHead);
    assert.is((await verify(VERIFIED)).kind, 'verified');
    assert.is(sink.requests.length, 2);
    assert.is(new Set(keys()).size, 1);
    await verify(answer(502));
    assert.is(sink.requests.length, 4);
    const lost = await verify(cutBeforeHead);
    assert.equal({ ...lost, reason: '' },
      { kind: 'unavailable', reason: '', retryAfterSeconds: null, requestId: null });
    assert.is(sink.requests.length, 6);
  });

test('a verification is repeated once after a 503 that came as late as one in doubt', async () => {
  const { now } = performance;
  let aheadMs = 0;
  let calls = 0;
  const fetchLate = async (): Promise<Response> => {
    calls += 1;
    aheadMs += 2000;
    return new Response('{"error":"unavailable"}', { status: 503 });
  };
  performance.now = () => now.call(performance) + aheadMs;
  try {
    const late = client({ fetch: fetchLate, deadlineMs: 7000 });
    assert.is((await late.verify(ATTEMPT)).kind, 'unavailable');
    assert.is(calls, 2);
    calls = 0;
    assert.is((await late.request(LOGIN)).kind, 'unavailable');
    assert.is(calls, 4);
  } finally {
    performance.now = now;
  }
});

test('a connection that is refused was never sent, and a verification waits for otpd', async () => {
  const port = await freePort();
  const waiting = client({ url: `http://127.0.0.1:${port}` }).verify(ATTEMPT);
  const late = await startHttpSink({ port, behaviour: VERIFIED });
  assert.is((await waiting).kind, 'verified');
  await late.close();
  const refused = await client({ url: `http://127.0.0.1:${port}` })
    .verify({ ...ATTEMPT, deadlineMs: 2000 });
  assert.equal(refused, { kind: 'unavailable', reason: 'ECONNREFUSED', retryAfterSeconds: null,
    requestId: null });
});

test('Retry-After is honoured, and a wait beyond the deadline is not begun', async () => {
  sink.behaveNext(error(503, 'unavailable', {}, { 'Retry-After': '1' }));
  sink.behave(SENT);
  const { ms, result } = await timed(() => client().request(LOGIN));
  assert.is(result.kind, 'sent');
  assert.ok(ms >= 999, `${ms} ms`);
  sink.behaveNext(error(503, 'unavailable', {}, { 'Retry-After': '30', 'X-Request-Id': 'r2' }));
  sink.requests.length = 0;
  assert.equal(await client().request(LOGIN), {
    kind: 'unavailable', reason: 'unavailable', retryAfterSeconds: 30, requestId: 'r2',
  });
  assert.is(sink.requests.length, 1);
  const date = new Date(Date.now() + 60_000).toUTCString();
  sink.behaveNext(answer(503, { 'Retry-After': date }));
  const dated = await client().request(LOGIN);
  assert.ok(dated.kind === 'unavailable' && dated.retryAfterSeconds! > 50);
});

test('a call ends at its deadline, whatever otpd does', async () => {
  sink.behave(hang);
  const { ms, result } = await timed(() => client({ deadlineMs: 150 }).request(LOGIN));
  assert.equal(result,
    { kind: 'unavailable', reason: 'timeout', retryAfterSeconds: null, requestId: null });
  assert.ok(ms >= 149, `${ms} ms`);
  assert.is(sink.requests.length, 1);
});

test('an abort rejects with its reason, before, during and between attempts', async () => {
  const reason = new Error('the user left');
  sink.behave(SENT);
  const early = client().request({ ...LOGIN, signal: AbortSignal.abort(reason) });
  assert.is(await errorOf(early), reason);
  assert.is(sink.requests.length, 0);
  for (const behaviour of [hang, error(503, 'unavailable', {}, { 'Retry-After': '5' })]) {
    const before = sink.requests.length;
    const controller = new AbortController();
    sink.behave((response, received) => {
      behaviour(response, received);
      setTimeout(() => controller.abort(reason), 20);
    });
    const call = client().status(OTP_ID, { signal: controller.signal });
    assert.is(await errorOf(call), reason);
    assert.is(sink.requests.length, before + 1);
  }
});

test('a URL that is none is refused when the client is made', () => {
  assert.throws(() => createClient({ url: '127.0.0.1:3000' }), /Invalid URL/);
});

test.run();
