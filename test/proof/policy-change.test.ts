/** Codes that are open when the policy changes: each service follows one policy. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createPolicies, DEFAULT_POLICY } from '../../src/otp/policy/policy.ts';
import type { Policy } from '../../src/otp/policy/policy.ts';
import { closeClient, post } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { newSecretsText, secretsOf, startTestService } from '../harness/service.ts';
import type { TestService } from '../harness/service.ts';
import { eventually } from '../harness/waiting.ts';
import { fresh, freshAddress } from './load.ts';

const secrets = secretsOf(newSecretsText());
const started: TestService[] = [];
let database: TestDatabase;

test.before(async () => { database = await createTestDatabase(); });
test.before.each(() => setClock('08:00:00'));
test.after(async () => {
  closeClient();
  await Promise.all(started.map((service) => service.close()));
  database.close();
});

function setClock(time: string): void {
  database.clock.set(`2026-01-05 ${time}`);
}

/** A service with the default policy, except for these numbers. */
async function serviceOf(numbers: Partial<Policy> = {}): Promise<TestService> {
  const policies = createPolicies({ ...DEFAULT_POLICY, ...numbers });
  const service = await startTestService({ pool: database.pool, policies, secrets });
  started.push(service);
  return service;
}

async function codeOf({ port, messages }: TestService, user: string): Promise<string> {
  const body = { user_id: user, purpose: 'login' };
  const { status, body: issued } = await post({
    port, path: '/otp/request', body, address: freshAddress(), key: fresh('k'),
  });
  assert.is(status, 201);
  const find = () => messages.find(({ otpId }) => otpId === issued.otp_id);
  await eventually('the message', () => find() !== undefined);
  return find()!.code;
}

function verify({ port }: TestService, user: string, code: string, key?: string): Promise<Reply> {
  const body = { user_id: user, purpose: 'login', code };
  return post({ port, path: '/otp/verify', body, key });
}

function wrong(code: string): string {
  return (code.startsWith('0') ? '1' : '0') + code.slice(1);
}

function mustHave(digits: number): object {
  const message = `must be a string of ${digits} digits`;
  return { error: 'invalid_request', field: 'code', message };
}

test('an open code of 6 digits stays valid when the policy requires 8', async () => {
  const before = await serviceOf();
  const after = await serviceOf({ codeDigits: 8 });
  const user = fresh('u');
  assert.equal((await verify(after, user, '123456')).body, mustHave(8));
  assert.equal((await verify(before, user, '12345678')).body, mustHave(6));
  const code = await codeOf(before, user);
  assert.is(code.length, 6);
  const rows: [TestService, string, object][] = [
    [after, '12345678', mustHave(6)],
    [before, '12345678', mustHave(6)],
    [after, wrong(code), { error: 'invalid_code', attempts_remaining: 2 }],
    [after, code, { success: true, message: 'verification_successful' }],
    [after, code, { error: 'code_used' }],
  ];
  for (const [service, given, answer] of rows) {
    assert.equal((await verify(service, user, given)).body, answer);
  }
  const longer = await codeOf(after, user);
  assert.is(longer.length, 8);
  assert.equal((await verify(after, user, code)).body, mustHave(8));
  assert.equal((await verify(before, user, code)).body, mustHave(8));
  assert.is((await verify(before, user, longer)).status, 200);
});

test('a code of the wrong length is a 400 without effect, even during a lock', async () => {
  const before = await serviceOf();
  const after = await serviceOf({ codeDigits: 8 });
  const user = fresh('u');
  const code = await codeOf(before, user);
  const read = () => database.query('SELECT * FROM otps WHERE user_id = ?', [user]);
  const open = await read();
  for (let time = 0; time < 5; time += 1) {
    assert.equal((await verify(after, user, '12345678')).body, mustHave(6));
  }
  assert.equal(await read(), open);
  for (let time = 0; time < 3; time += 1) await verify(after, user, wrong(code));
  const locked = await read();
  assert.is((await verify(after, user, code)).body.error, 'too_many_attempts');
  assert.equal((await verify(after, user, '12345678')).body, mustHave(6));
  assert.equal(await read(), locked);
});

test('an open code keeps its lifetime, attempts and lock to the microsecond', async () => {
  const before = await serviceOf();
  const after = await serviceOf({ lifetimeSeconds: 30, wrongAttempts: 1, lockSeconds: 5 });
  const user = fresh('u');
  const code = await codeOf(before, user);
  setClock('08:04:59.999999');
  assert.is((await verify(after, user, wrong(code))).body.attempts_remaining, 2);
  assert.is((await verify(after, user, wrong(code))).body.attempts_remaining, 1);
  assert.equal((await verify(after, user, wrong(code))).body,
    { error: 'too_many_attempts', retry_after_seconds: 600 });
  setClock('08:14:59.999998');
  assert.is((await verify(after, user, code)).body.retry_after_seconds, 1);
  setClock('08:14:59.999999');
  assert.is((await verify(after, user, code)).body.error, 'code_expired');
  const newer = await codeOf(after, user);
  assert.equal((await verify(before, user, wrong(newer))).body,
    { error: 'too_many_attempts', retry_after_seconds: 5 });
});

test.run();
