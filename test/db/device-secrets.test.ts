/** Tokens of devices over a change of the server secret (docs/api.md, "Trusted devices"). */
import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createPolicies, DEFAULT_POLICY } from '../../src/otp/policy/policy.ts';
import { closeClient, post } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { parseDeviceToken } from '../harness/device-token.ts';
import { secretsOf, startTestService } from '../harness/service.ts';
import type { TestService } from '../harness/service.ts';
import { eventually } from '../harness/waiting.ts';

const [OLD, NEW] = ['old', 'new'].map((id) => `${id}:${randomBytes(32).toString('base64')}`);
const policies = createPolicies({ ...DEFAULT_POLICY, deviceDays: 30, userLimit: 9 });

let database: TestDatabase;
const services: TestService[] = [];

test.before(async () => {
  database = await createTestDatabase();
  database.clock.set('2026-01-05 08:00:00');
});
test.after(async () => {
  closeClient();
  for (const service of services) await service.close();
  database.close();
});

/** A service with these secrets, the current one first. */
async function start(...secrets: (string | undefined)[]): Promise<TestService> {
  const { pool } = database;
  const service = await startTestService({ pool, policies, secrets: secretsOf(secrets.join()) });
  services.push(service);
  return service;
}

let keys = 0;

function call(
  { port }: TestService,
  path: string,
  body: object,
  token: string,
  key?: string,
): Promise<Reply> {
  keys += 1;
  return post({ port, path, body: { user_id: 'U1', purpose: 'login', ...body },
    key: key ?? `k${keys}`, headers: { 'Otp-Device': token } });
}

async function request(service: TestService, token: string): Promise<Reply & { code: string }> {
  const reply = await call(service, '/otp/request', {}, token);
  const find = () => service.messages.find(({ otpId }) => otpId === reply.body.otp_id);
  await eventually('the message', () => find() !== undefined);
  return { ...reply, code: find()!.code };
}

/** @returns the token of the success */
async function verify(service: TestService, code: string, token: string, key?: string) {
  const { status, headers, text } = await call(service, '/otp/verify', { code }, token, key);
  assert.is(status, 200, text);
  return String(headers['otp-device']);
}

function namesDevice({ headers }: Reply): boolean {
  return String(headers.ratelimit).startsWith('"device"');
}

test('a device is kept over a change of secrets while the old one is configured', async () => {
  const before = await start(OLD);
  const during = await start(NEW, OLD);
  const after = await start(NEW);
  const { code } = await request(before, '');
  const old = await verify(before, code, '', 'first');
  assert.match(old, /^old\./);

  // The replay of a success under the old secret has its token.
  assert.is(await verify(during, code, '', 'first'), old);

  // A code that was requested under the old secret is verified on the device, by its secret.
  const pending = await request(before, old);
  const renewed = await verify(during, pending.code, old);
  assert.match(renewed, /^old\./);

  // The next success has a token under the new secret, of the same device.
  const next = await request(during, renewed);
  assert.ok(namesDevice(next));
  const fresh = await verify(during, next.code, renewed);
  assert.match(fresh, /^new\./);
  assert.is(parseDeviceToken(fresh).device, parseDeviceToken(old).device);

  // Without the old secret its tokens are worth nothing.
  assert.ok(!namesDevice(await request(after, old)));
  assert.ok(namesDevice(await request(after, fresh)));
  assert.ok(namesDevice(await call(after, '/otp/request', {}, `${old}, ${fresh}`)));
});

test.run();
