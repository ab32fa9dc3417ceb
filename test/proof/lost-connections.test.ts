/**
 * Connections to MySQL that are lost at one moment, with or without a word: no request fails, and
 * after the first one no request meets a dead connection.
 */
import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient, post, send } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { startHttpSink } from '../harness/http-sink.ts';
import type { HttpSink } from '../harness/http-sink.ts';
import { startOtpdOn, stopAllOtpd } from '../harness/otpd-on.ts';
import type { Otpd } from '../harness/otpd.ts';
import { newSecretsText } from '../harness/service.ts';
import { eventually, promptly } from '../harness/waiting.ts';
import { openConnection } from '../../src/db/connection.ts';
import { startCuttingProxy } from './cutting-proxy.ts';
import type { CuttingProxy } from './cutting-proxy.ts';
import { startDurableServer } from './durable-server.ts';
import type { DurableServer } from './durable-server.ts';
import { atOnce, fresh, newEndUser } from './load.ts';
import type { EndUser } from './load.ts';

/** Connections that are open before the loss. */
const OPEN_MIN = 8;

let server: DurableServer;
let proxy: CuttingProxy;
let provider: HttpSink;
let otpd: Otpd;

test.before(async () => {
  server = await startDurableServer();
  provider = await startHttpSink();
  proxy = await startCuttingProxy(server.settings.socketPath!, server.path('proxy.sock'));
  otpd = await startOtpdOn({
    settings: { ...server.settings, socketPath: proxy.socketPath }, secrets: newSecretsText(),
    webhookUrl: provider.url, webhookSecrets: `whsec_${randomBytes(32).toString('base64')}`,
    environment: { ADMIN_PORT: '0' },
  });
});
test.after(async () => {
  closeClient();
  await stopAllOtpd();
  await proxy.close();
  await provider.close();
  await server.stop();
});

function request({ user, address } = newEndUser()): Promise<Reply> {
  return promptly(() => post({
    port: otpd.port, path: '/otp/request', body: { user_id: user, purpose: 'login' }, address,
    key: fresh('k'),
  }));
}

function verify({ user, address }: EndUser): Promise<Reply> {
  const body = { user_id: user, purpose: 'login', code: '000000' };
  return promptly(() => post({ port: otpd.port, path: '/otp/verify', body, address }));
}

/** The connections of otpd that the server knows. */
async function connectionIds(): Promise<number[]> {
  const rows = await server.database.query(`SELECT id FROM information_schema.processlist
    WHERE db = ? AND id <> CONNECTION_ID()`, [server.settings.database]);
  return rows.map(({ id }) => Number(id));
}

/** Fills the pool with idle connections: each held batch has one. */
async function openMany(): Promise<void> {
  const otpId = String((await request()).body.otp_id);
  await eventually(`${OPEN_MIN} connections are open`, async () => {
    proxy.setMode('hold');
    const held = atOnce(9, () => Promise.all([
      request(), verify(newEndUser()), ask(`/otp/${otpId}`), ask(`/otp/${otpId}`, 'DELETE'),
    ]));
    await eventually('they are in use', () => proxy.heldCount() >= OPEN_MIN);
    proxy.setMode('pass');
    await held;
    return (await connectionIds()).length >= OPEN_MIN;
  });
}

function ask(path: string, method: 'GET' | 'DELETE' = 'GET', port = otpd.port): Promise<Reply> {
  return promptly(() => send({ port, path, method }));
}

/** The durations of the requests that otpd has logged since, in milliseconds. */
function durationsMs(from: number): number[] {
  const logged = otpd.output().slice(from).matchAll(/"duration_ms":([\d.]+)/g);
  return [...logged].map(([, ms]) => Number(ms));
}

async function readiness(): Promise<number> {
  return (await ask('/readyz', 'GET', otpd.adminPort)).status;
}

for (const how of ['swallow', 'reset'] as const) {
  test(`requests one after another get 201 after a loss (${how})`, async () => {
    await openMany();
    assert.is(await readiness(), 200);
    const lost = await connectionIds();
    const start = otpd.output().length;
    proxy.lose(how);
    assert.is(await readiness(), 200);
    for (let count = 0; count < OPEN_MIN; count += 1) {
      assert.is((await request()).status, 201);
    }
    await eventually('they are logged', () => durationsMs(start).length >= OPEN_MIN);
    const [first = NaN, ...later] = durationsMs(start);
    assert.ok(first < 3000, `the first took ${first} ms`);
    // A dead connection costs at least the time after which it is looked at.
    const slow = later.filter((ms) => ms > 400);
    assert.ok(slow.length < 2, `the later ones took ${later.join()} ms`);
    await eventually('the server has ended the lost connections', async () => {
      const living = await connectionIds();
      return lost.filter((id) => living.includes(id)).length <= 2;
    });
  });

  test(`a burst of requests gets 201 after a loss (${how})`, async () => {
    await openMany();
    const start = otpd.output().length;
    proxy.lose(how);
    const replies = await atOnce(45, () => request());
    assert.equal(replies.map(({ status }) => status), replies.map(() => 201));
    await eventually('they are logged', () => durationsMs(start).length >= 45);
    const slowest = Math.max(...durationsMs(start));
    assert.ok(slowest < 3000, `the slowest took ${slowest} ms`);
    assert.is(await readiness(), 200);
  });
}

test('a connection that waits for a lock is not taken for a lost one', async () => {
  await openMany();
  const endUser = newEndUser();
  assert.is((await request(endUser)).status, 201);
  const holder = await openConnection(server.settings);
  await holder.run('x', 'SELECT 1 FROM otps WHERE user_id = ? FOR UPDATE', [endUser.user]);
  const before = await connectionIds();
  const blocked = request(endUser);
  assert.is((await blocked).status, 503);
  holder.destroy();
  const after = await connectionIds();
  assert.ok(before.filter((id) => !after.includes(id)).length <= 2, 'the pool was not emptied');
});

test.run();
