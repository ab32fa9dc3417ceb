/** client/index.js against the real service, with faults in between. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createClient } from '../../client/index.js';
import type { ClientOptions, OtpdClient } from '../../client/index.js';
import { parsePolicies } from '../../src/otp/policy/policy-file.ts';
import { newApiClients } from '../harness/api-clients.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { forward, loseAnswer } from '../harness/forwarding.ts';
import { answer, cutBeforeHead, slow, startHttpSink } from '../harness/http-sink.ts';
import type { HttpSink } from '../harness/http-sink.ts';
import { recordVisible } from '../harness/leak-recorder.ts';
import { startTestService } from '../harness/service.ts';
import type { TestService } from '../harness/service.ts';
import { errorOf, eventually } from '../harness/waiting.ts';

const UNAVAILABLE = answer(503, { 'Retry-After': '0' }, '{"error":"unavailable"}');

let database: TestDatabase;
let service: TestService;
let between: HttpSink;
let count = 0;

test.before(async () => {
  database = await createTestDatabase();
  service = await startTestService({ pool: database.pool });
  between = await startHttpSink();
});

test.before.each(() => {
  database.clock.set('2026-01-05 08:00:00');
  between.behave(forward(service.port));
  between.requests.length = 0;
});

test.after(async () => {
  await between.close();
  await service.close();
  database.close();
});

/** A client whose outcomes the leak check reads. */
function client(options: Partial<ClientOptions> = {}): OtpdClient {
  const made = createClient({ url: between.url, ...options });
  const recorded = Object.entries(made).map(([name, call]) => [
    name, async (...values: never[]) => {
      const outcome = await (call as (...all: never[]) => Promise<object>)(...values);
      recordVisible(JSON.stringify(outcome));
      return outcome;
    },
  ]);
  return Object.fromEntries(recorded) as OtpdClient;
}

/** A new user at an address of its own. */
function newCall() {
  count += 1;
  return { userId: `client-${count}`, purpose: 'login', clientIp: `10.0.0.${count}` };
}

/** The code of the newest message to a user, or of the OTP that is named. */
async function codeFor(
  { userId, otpId }: { userId: string; otpId?: string },
  { messages } = service,
): Promise<string> {
  const mine = () => messages.filter((message) =>
    message.userId === userId && (otpId === undefined || message.otpId === otpId));
  await eventually('the message is sent', () => mine().length > 0);
  return mine().at(-1)!.code;
}

function wrong(code: string): string {
  return code === '000000' ? '000001' : '000000';
}

test('a login: request, a wrong code, the right one, used, and the state', async () => {
  const call = newCall();
  const sent = await client().request(call);
  assert.ok(sent.kind === 'sent');
  assert.equal([sent.ttl, sent.remainingRequests, sent.nextCodeInSeconds, sent.isReplay],
    [300, 2, 0, false]);
  const code = await codeFor(call);
  const { otpId } = sent;
  const first = await client().verify({ ...call, otpId, code: wrong(code) });
  assert.ok(first.kind === 'invalid_code' && first.attemptsRemaining === 2);
  const right = await client().verify({ ...call, otpId, code });
  assert.ok(right.kind === 'verified' && !right.isReplay);
  assert.is((await client().verify({ ...call, otpId, code })).kind, 'code_used');
  const known = await client().status(otpId);
  assert.ok(known.kind === 'known' && known.status === 'verified');
  assert.is((await client().cancel(otpId)).kind, 'code_used');
});

test('superseded, expired, canceled, unknown, locked and limited are outcomes', async () => {
  const call = newCall();
  const first = await client().request(call);
  const second = await client().request(call);
  assert.ok(first.kind === 'sent' && second.kind === 'sent');
  const attempt = { ...call, code: '000000', otpId: first.otpId };
  assert.is((await client().verify(attempt)).kind, 'code_superseded');
  const third = await client().request(call);
  assert.ok(third.kind === 'sent');
  assert.equal([third.remainingRequests, third.nextCodeInSeconds], [0, 900]);
  const limited = await client().request(call);
  assert.ok(limited.kind === 'rate_limit_exceeded' && limited.retryAfterSeconds === 900);
  assert.is((await client().cancel(third.otpId)).kind, 'canceled');
  assert.is((await client().verify({ ...attempt, otpId: third.otpId })).kind, 'code_expired');
  assert.is((await client().status('0'.repeat(32))).kind, 'otp_not_found');

  const other = newCall();
  await client().request(other);
  const bad = { ...other, code: wrong(await codeFor(other)) };
  for (let left = 2; left > 0; left -= 1) {
    const outcome = await client().verify(bad);
    assert.ok(outcome.kind === 'invalid_code' && outcome.attemptsRemaining === left);
  }
  const locked = await client().verify(bad);
  assert.ok(locked.kind === 'too_many_attempts' && locked.retryAfterSeconds === 600);
  assert.is((await client().request(other)).kind, 'too_many_attempts');
});

test('a request whose answer is lost gets the stored answer, and one message is sent', async () => {
  const call = newCall();
  between.behaveNext(loseAnswer(service.port), UNAVAILABLE, loseAnswer(service.port));
  const sent = await client().request(call);
  assert.ok(sent.kind === 'sent' && sent.isReplay && sent.remainingRequests === 2);
  assert.is(between.requests.length, 4);
  assert.is(new Set(between.requests.map(({ headers }) => headers['idempotency-key'])).size, 1);
  await codeFor(call);
  assert.is(service.messages.filter(({ userId }) => userId === call.userId).length, 1);
});

test('a verification whose 200 is lost is verified, and not used', async () => {
  const call = newCall();
  await client().request(call);
  between.behaveNext(UNAVAILABLE, loseAnswer(service.port));
  const verified = await client().verify({ ...call, code: await codeFor(call) });
  assert.ok(verified.kind === 'verified' && verified.isReplay);
});

test('a wrong code whose answer is lost counts twice and locks nothing', async () => {
  const call = newCall();
  await client().request(call);
  const code = await codeFor(call);
  between.behaveNext(loseAnswer(service.port), loseAnswer(service.port));
  assert.is((await client().verify({ ...call, code: wrong(code) })).kind, 'unavailable');
  assert.is((await client().verify({ ...call, code })).kind, 'verified');
});

test('a slow answer is waited for, and an abort loses nothing', async () => {
  const call = newCall();
  between.behaveNext(slow(700, forward(service.port)));
  assert.is((await client().request({ ...call, idempotencyKey: `k-${call.userId}` })).kind, 'sent');
  const controller = new AbortController();
  const other = newCall();
  const idempotencyKey = `k-${other.userId}`;
  between.behaveNext(forward(service.port, () => controller.abort()));
  const aborted = client().request({ ...other, idempotencyKey, signal: controller.signal });
  assert.is((await errorOf(aborted)).name, 'AbortError');
  const again = await client().request({ ...other, idempotencyKey });
  assert.ok(again.kind === 'sent' && again.isReplay && again.remainingRequests === 2);
});

test('a key of another request is a failure that names the mistake', async () => {
  const call = { ...newCall(), idempotencyKey: 'key-of-two' };
  await client().request(call);
  const reused = await client().request({ ...call, purpose: 'payment' });
  assert.ok(reused.kind === 'failed' && reused.error === 'idempotency_key_reused');
  const member = await client().verify({ ...call, code: '12345' });
  assert.ok(member.kind === 'failed' && member.field === 'code');
  assert.is(typeof member.message, 'string');
});

test('the limit by client IP counts the address that the call names, with and without API keys',
  async () => {
    const { apiKeys, headersOf } = newApiClients(['app']);
    const keyed = await startTestService({ pool: database.pool, apiKeys });
    const apiKey = headersOf('app').Authorization!.replace('Bearer ', '');
    for (const [port, options] of [[service.port, {}], [keyed.port, { apiKey }]] as const) {
      between.behave(forward(port));
      const { clientIp } = newCall();
      for (let sent = 0; sent < 8; sent += 1) {
        assert.is((await client(options).request({ ...newCall(), clientIp })).kind, 'sent');
      }
      assert.is((await client(options).request({ ...newCall(), clientIp })).kind,
        'rate_limit_exceeded');
      assert.is((await client(options).request(newCall())).kind, 'sent');
    }
    const outside = await client().request(newCall());
    assert.ok(outside.kind === 'failed' && outside.error === 'unauthorized');
    await keyed.close();
  });

test('a device keeps its codes while strangers lock the user out', async () => {
  const parsed = parsePolicies('{"default":{"device_days":30}}');
  assert.ok('policies' in parsed);
  const trusting = await startTestService({ pool: database.pool, policies: parsed.policies });
  between.behave(forward(trusting.port));
  const stranger = newCall();
  await client().request(stranger);
  between.behaveNext(loseAnswer(trusting.port));
  const verified = await client().verify({ ...stranger, code: await codeFor(stranger, trusting) });
  assert.ok(verified.kind === 'verified' && verified.isReplay && verified.device !== null);
  const open = await client().request(stranger);
  assert.ok(open.kind === 'sent');
  const code = await codeFor({ ...stranger, otpId: open.otpId }, trusting);
  for (let guess = 0; guess < 3; guess += 1) {
    await client().verify({ ...stranger, code: wrong(code) });
  }
  assert.is((await client().request(stranger)).kind, 'too_many_attempts');
  const device = { ...stranger, devices: ['not a token', verified.device] };
  const sent = await client().request(device);
  assert.ok(sent.kind === 'sent' && sent.remainingRequests === 2);
  const attempt = { ...device, otpId: sent.otpId };
  const again = await client().verify({ ...attempt, code: await codeFor(attempt, trusting) });
  assert.ok(again.kind === 'verified' && again.device !== null);
  await trusting.close();
});

test('a service that is away is unavailable, and no rejection', async () => {
  between.behave(cutBeforeHead);
  const outcome = await client({ deadlineMs: 1000 }).status('0'.repeat(32));
  assert.is(outcome.kind, 'unavailable');
});

test.run();
