/**
 * The clock of the host is wrong by an hour at the start and while otpd runs: no rule, stored time
 * or signature follows it, because every time comes from the database.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient, post, send } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { startHttpSink } from '../harness/http-sink.ts';
import type { HttpSink, Received } from '../harness/http-sink.ts';
import { startOtpdOn, stopAllOtpd } from '../harness/otpd-on.ts';
import type { Otpd } from '../harness/otpd.ts';
import { newSecretsText } from '../harness/service.ts';
import { recordCode } from '../harness/leak-recorder.ts';
import { eventually } from '../harness/waiting.ts';
import { fresh, newEndUser, wrongCode } from './load.ts';
import type { EndUser } from './load.ts';

const HOUR_MS = 3_600_000;
/** The greatest difference between a time of this process and one of the database. */
const DIFFERENCE_MAX_MS = 60_000;

const folder = mkdtempSync(join(tmpdir(), 'otpd-clock-'));
const offset = join(folder, 'offset');

/** Replaces Date, the only clock of JavaScript that has a date. */
const WRONG_CLOCK = `
  import { readFileSync } from 'node:fs';
  const Right = Date;
  const offset = () => Number(readFileSync(${JSON.stringify(offset)}, 'utf8'));
  globalThis.Date = class extends Right {
    constructor(...given) { super(...(given.length === 0 ? [Right.now() + offset()] : given)); }
    static now() { return Right.now() + offset(); }
  };
  process.stdout.write('clock ' + new Date().toISOString() + '\\n');`;

let database: TestDatabase;
let provider: HttpSink;
let otpd: Otpd;

test.before(async () => {
  database = await createTestDatabase();
  provider = await startHttpSink();
  writeFileSync(offset, String(HOUR_MS));
  otpd = await startOtpdOn({
    settings: database.settings, secrets: newSecretsText(), webhookUrl: provider.url,
    webhookSecrets: `whsec_${randomBytes(32).toString('base64')}`,
    environment: {
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(WRONG_CLOCK)}`,
      POLICY_FILE: '',
    },
  });
});
test.after(async () => {
  closeClient();
  await stopAllOtpd();
  await provider.close();
  database.close();
  rmSync(folder, { recursive: true });
});

test('the process runs with the wrong time', () => {
  const [, clock = ''] = /^clock (\S+)$/m.exec(otpd.output()) ?? [];
  assert.ok(Math.abs(Date.parse(clock) - Date.now() - HOUR_MS) < DIFFERENCE_MAX_MS, clock);
});

function request({ user, address }: EndUser, key = fresh('k')): Promise<Reply> {
  const body = { user_id: user, purpose: 'login' };
  return post({ port: otpd.port, path: '/otp/request', body, address, key });
}

function verify({ user }: EndUser, code: string): Promise<Reply> {
  const body = { user_id: user, purpose: 'login', code };
  return post({ port: otpd.port, path: '/otp/verify', body });
}

/** The call to the provider that carried the code of an otp_id. */
async function callOf(otpId: unknown): Promise<{ call: Received; code: string }> {
  const find = () => provider.requests.find(({ body }) => body.includes(String(otpId)));
  await eventually('the message comes', () => find() !== undefined);
  const call = find()!;
  const { code } = (JSON.parse(call.body) as { data: { code: string } }).data;
  recordCode(code);
  return { call, code };
}

function assertNow(text: unknown, shiftMs = 0): void {
  const difference = Math.abs(Date.parse(String(text)) - Date.now() - shiftMs);
  assert.ok(difference < DIFFERENCE_MAX_MS, String(text));
}

/** Uses a code from its request to its redemption, and checks every time in the responses. */
async function useCode(endUser: EndUser, remaining: number): Promise<void> {
  const key = fresh('k');
  const reply = await request(endUser, key);
  assert.is(reply.status, 201);
  assert.equal([reply.body.ttl, reply.body.remaining_requests], [300, remaining]);
  assert.match(String(reply.headers.ratelimit), /^"user";r=\d;t=(900|8[0-9]{2}), /);
  assert.is((await request(endUser, key)).text, reply.text, 'a repeat is the same answer');
  const { call, code } = await callOf(reply.body.otp_id);
  const sentAt = Number(call.headers['webhook-timestamp']) * 1000;
  assertNow(new Date(sentAt).toISOString());
  const { data } = JSON.parse(call.body) as { data: { expires_at: string } };
  assertNow(data.expires_at, 300_000);
  const status = await send({ method: 'GET', port: otpd.port,
    path: `/otp/${String(reply.body.otp_id)}` });
  assertNow(status.body.created_at);
  assert.is((await verify(endUser, wrongCode(code))).body.attempts_remaining, 2);
  assert.is((await verify(endUser, code)).status, 200);
  assert.is((await verify(endUser, code)).status, 410);
}

test('the window of a limit does not follow the clock of the host',
  async () => {
    const endUser = newEndUser();
    await useCode(endUser, 2);
    writeFileSync(offset, String(-HOUR_MS));
    await useCode(endUser, 1);
    writeFileSync(offset, '0');
    await useCode(endUser, 0);
    writeFileSync(offset, String(HOUR_MS));
    const refused = await request(endUser);
    assert.is(refused.status, 429);
    const seconds = Number(refused.body.remaining_cooldown_seconds);
    assert.ok(seconds > 840 && seconds <= 900, String(seconds));
  });

test('a lock lasts its 600 s when the clock of the host changes', async () => {
  const endUser = newEndUser();
  writeFileSync(offset, String(HOUR_MS));
  const { body } = await request(endUser);
  const { code } = await callOf(body.otp_id);
  for (const status of [401, 401, 429]) {
    assert.is((await verify(endUser, wrongCode(code))).status, status);
    writeFileSync(offset, String(-HOUR_MS));
  }
  const locked = await verify(endUser, code);
  assert.is(locked.status, 429);
  const seconds = Number(locked.body.retry_after_seconds);
  assert.ok(seconds > 540 && seconds <= 600, String(seconds));
});

test.run();
