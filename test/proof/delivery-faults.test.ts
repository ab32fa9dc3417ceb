/**
 * Faults of the database between the acceptance of a message and its mark: the mark is stored in
 * the end, and a process that survives sends the message once.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient, post, send } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { answer } from '../harness/http-sink.ts';
import type { Behaviour } from '../harness/http-sink.ts';
import { loggedErrors, startOtpdOn, stopAllOtpd } from '../harness/otpd-on.ts';
import type { Otpd } from '../harness/otpd.ts';
import { newSecretsText } from '../harness/service.ts';
import { eventually } from '../harness/waiting.ts';
import { startCuttingProxy } from './cutting-proxy.ts';
import type { CommitFault, CuttingProxy } from './cutting-proxy.ts';
import { startDurableServer } from './durable-server.ts';
import type { DurableServer } from './durable-server.ts';
import { Provider } from './provider.ts';
import { fresh, newEndUser } from './load.ts';
import type { EndUser } from './load.ts';

/** Less than the lease of 20 s; a busy machine adds seconds to the one that a message may take. */
const SENT_MAX_MS = 15_000;

let server: DurableServer;
let proxy: CuttingProxy;
let provider: Provider;
let otpd: Otpd;

test.before(async () => {
  server = await startDurableServer();
  proxy = await startCuttingProxy(server.settings.socketPath!, server.path('proxy.sock'));
  provider = await Provider.start();
  otpd = await startOtpdOn({
    settings: { ...server.settings, socketPath: proxy.socketPath }, secrets: newSecretsText(),
    webhookUrl: provider.urlFor('/otpd'), webhookSecrets: provider.secrets,
  });
});
test.before.each(() => provider.behave(() => answer(200)));
test.after.each(() => proxy.setMode('pass'));
test.after(async () => {
  closeClient();
  await stopAllOtpd();
  await provider.close();
  await proxy.close();
  await server.stop();
});

function request({ user, address }: EndUser, key = fresh('k')): Promise<Reply> {
  const body = { user_id: user, purpose: 'login' };
  return post({ port: otpd.port, path: '/otp/request', body, address, key });
}

/** Repeats a request until the database is available. */
async function requestUntilIssued(): Promise<string> {
  const endUser = newEndUser();
  const key = fresh('k');
  let otpId = '';
  await eventually('a code is issued', async () => {
    const { status, body } = await request(endUser, key);
    otpId = String(body.otp_id);
    return status === 201;
  });
  return otpId;
}

async function untilAllSent(boundMs = 60_000): Promise<void> {
  await eventually('the outbox is empty', async () => (await unsent()) === 0, boundMs);
}

async function unsent(): Promise<number> {
  const [row] = await server.database.query('SELECT COUNT(*) AS n FROM outbox');
  return row?.n as number;
}

/** The mark is stored, the message is not sent again, and later messages are sent as usual. */
async function assertSentOnce(otpId: string): Promise<void> {
  await untilAllSent();
  const later = await requestUntilIssued();
  await untilAllSent();
  assert.is(provider.callsOf(later).length, 1);
  assert.is(provider.callsOf(otpId).length, 1);
  const { body } = await send({ method: 'GET', port: otpd.port, path: `/otp/${otpId}` });
  assert.equal([body.status, body.channel], ['sent', 'webhook']);
}

/** Calls `spoil` once, just before the next message is accepted. */
function acceptAfter(spoil: () => void): void {
  let isSpoilt = false;
  const accept: Behaviour = (response, received) => {
    if (!isSpoilt) spoil();
    isSpoilt = true;
    answer(200)(response, received);
  };
  provider.behave(() => accept);
}

const COMMIT_FAULTS: CommitFault[] = ['cut before', 'cut after', 'silent before', 'silent after'];

for (const fault of COMMIT_FAULTS) {
  test(`a mark whose COMMIT is ${fault} is stored in the end, and the message is sent once`,
    async () => {
      acceptAfter(() => proxy.spoilCommit(fault));
      const otpId = await requestUntilIssued();
      await untilAllSent();
      proxy.assertHit();
      await assertSentOnce(otpId);
    });
}

for (const mode of ['closed', 'silent'] as const) {
  test(`a mark is stored in the end when MySQL is ${mode} after the acceptance`, async () => {
    acceptAfter(() => proxy.setMode(mode));
    const otpId = await requestUntilIssued();
    await eventually('the message is accepted', () => provider.callsOf(otpId).length === 1);
    // The mark started earlier with the same time limit, so it has failed once this request fails.
    assert.is((await request(newEndUser())).status, 503);
    assert.is(await unsent(), 1);
    proxy.setMode('pass');
    await assertSentOnce(otpId);
  });
}

test('a mark is stored in the end when mysqld is killed after the acceptance', async () => {
  let killed: Promise<void> | null = null;
  acceptAfter(() => { killed = server.kill(); });
  const otpId = await requestUntilIssued();
  await eventually('mysqld is killed', () => killed !== null);
  await killed;
  assert.is((await request(newEndUser())).status, 503);
  await server.start();
  await assertSentOnce(otpId);
});

test('a message whose COMMIT had no answer is sent soon, and its key replays', async () => {
  const endUser = newEndUser();
  const key = fresh('k');
  // The erasure of an earlier message would be the next COMMIT.
  await untilAllSent();
  const callsBefore = provider.calls.length;
  proxy.spoilCommit('silent after', () => proxy.setMode('silent'));
  const first = await request(endUser, key);
  proxy.assertHit();
  assert.is(`${first.status} ${first.text}`, '503 {"error":"unavailable"}');
  proxy.setMode('pass');
  let again = first;
  await eventually('the service works again', async () => {
    again = await request(endUser, key);
    return again.status === 201;
  });
  assert.is(again.headers['idempotent-replayed'], 'true');
  await untilAllSent(SENT_MAX_MS);
  const [call, ...others] = provider.calls.slice(callsBefore);
  assert.equal(others, []);
  assert.equal([call?.otpId, call?.userId], [again.body.otp_id, endUser.user]);
  assert.is((await request(endUser, key)).text, again.text);
  const body = { user_id: endUser.user, purpose: 'login', code: call?.code };
  assert.is((await post({ port: otpd.port, path: '/otp/verify', body })).status, 200);
});

test('no process logs an internal error', () => {
  assert.equal(loggedErrors(), []);
});

test.run();
