/**
 * Delivery by real processes: two on one database, two workers, a provider that never answers, and
 * a process that stops meanwhile.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient, post, send } from '../harness/client.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { answer, hang, slow, tooMany } from '../harness/http-sink.ts';
import { loggedErrors, startOtpdOn, stopAllOtpd } from '../harness/otpd-on.ts';
import type { Otpd } from '../harness/otpd.ts';
import { newSecretsText } from '../harness/service.ts';
import { eventually, promptly } from '../harness/waiting.ts';
import { groupByOtp, Provider } from './provider.ts';
import type { Responder } from './provider.ts';
import { atOnce, decided, fresh, freshAddress } from './load.ts';

const CODES = 300;
const CLIENTS = 16;

/** The last of 300 messages may wait for the end of a lease. */
const SENT_MAX_MS = 120_000;

/** 10 s for requests, 9 s for messages, and a margin for a busy machine. */
const STOP_MAX_MS = 60_000;

const secrets = newSecretsText();
let database: TestDatabase;
let provider: Provider;

test.before.each(async () => {
  database = await createTestDatabase(2);
  provider = await Provider.start();
});
test.after.each(async () => {
  closeClient();
  await stopAllOtpd();
  await provider.close();
  database.close();
});

function start(sender: string, environment: Record<string, string> = {}): Promise<Otpd> {
  return startOtpdOn({
    settings: database.settings, secrets, webhookUrl: provider.urlFor(sender),
    webhookSecrets: provider.secrets, environment,
  });
}

/** Requests a code for a new user and returns its otp_id. */
async function request({ port }: Otpd): Promise<string> {
  const user = fresh('u');
  const body = { user_id: user, purpose: 'login' };
  const address = freshAddress();
  const reply = await decided(() => post({ port, path: '/otp/request', body, address, key: user }));
  assert.is(reply.status, 201, reply.text);
  return String(reply.body.otp_id);
}

/** Requests codes from the processes in turn, CLIENTS at a time. */
async function requestMany(processes: readonly Otpd[], count = CODES): Promise<string[]> {
  let next = 0;
  const lists = await atOnce(CLIENTS, async () => {
    const mine: string[] = [];
    while (next < count) mine.push(await request(processes[(next += 1) % processes.length]!));
    return mine;
  });
  return lists.flat();
}

async function unsent(): Promise<number> {
  const sql = 'SELECT COALESCE(SUM(LENGTH(otp_ids)), 0) DIV 16 AS n FROM outbox';
  const [row] = await database.query(sql);
  return Number(row?.n);
}

async function leased(): Promise<number> {
  const sql = 'SELECT COUNT(*) AS n FROM outbox WHERE leased_until > NOW(6)';
  const [row] = await database.query(sql);
  return Number(row?.n);
}

/** Waits until the outbox is empty and no call is in progress. */
async function untilAllSent(): Promise<void> {
  await eventually('the outbox is empty', async () => (await unsent()) === 0, SENT_MAX_MS);
  await eventually('no call is under way', () => provider.calls.every(({ isOver }) => isOver));
}

/** Longer than MySQL keeps the rows of innodb_trx after they were read. */
const TRX_CACHE_MS = 150;

/**
 * Stops a process while it holds no lock. MySQL keeps the locks of a stopped process, so its
 * batches could not be reclaimed.
 */
async function stopBetweenTransactions(otpd: Otpd): Promise<void> {
  await eventually('it is stopped between transactions', async () => {
    otpd.signal('SIGSTOP');
    // MySQL looks at its transactions again only if nobody has asked for them for 0.1 s. Tests that
    // run at the same time have transactions in other databases.
    await delay(TRX_CACHE_MS);
    const [row] = await database.query(`SELECT COUNT(*) AS n FROM information_schema.innodb_trx
      JOIN information_schema.processlist AS thread ON thread.id = trx_mysql_thread_id
      WHERE thread.id <> CONNECTION_ID() AND thread.db = DATABASE()`);
    if (Number(row?.n) === 0) return true;
    otpd.signal('SIGCONT');
    return false;
  });
}

/** Every message was accepted exactly once, and nothing else was sent. */
function assertAcceptedOnce(otpIds: readonly string[]): void {
  const groups = groupByOtp(provider.accepted);
  assert.equal(otpIds.filter((otpId) => !groups.has(otpId)), [], 'all are accepted');
  assert.is(groups.size, otpIds.length);
  const twice = [...groups.values()].filter((calls) => calls.length > 1)
    .map((calls) => calls.map(({ sender }) => sender).join(' and '));
  assert.equal(twice, [], 'none is accepted twice');
}

const sendersOf = () => new Set(provider.accepted.map(({ sender }) => sender));

function slowAndFailing(): Responder {
  let turn = 0;
  return () => slow(50, (turn += 1) % 5 === 0 ? answer(503) : answer(200));
}

test('two processes on one database both send, and no message is accepted twice', async () => {
  provider.behave(() => slow(4000));
  const first = await start('/a');
  const otpIds = await requestMany([first], CODES / 3);
  // The second process searches for reclaimable messages while the first sends its own.
  const processes = [first, await start('/b')];
  provider.behave(slowAndFailing());
  otpIds.push(...await requestMany(processes, CODES * 2 / 3));
  await untilAllSent();
  assertAcceptedOnce(otpIds);
  assert.equal([...sendersOf()].sort(), ['/a', '/b']);
  assert.ok(provider.calls.length > CODES, 'some were sent again');
});

test('two workers both send, and no message is accepted twice', async () => {
  provider.behave(slowAndFailing());
  const otpd = await start('/workers', { WORKERS: '2' });
  const owners = new Set<string>();
  const otpIds: string[] = [];
  await eventually('both have pending messages', async () => {
    // Workers accept for themselves: new connections may go to the other one.
    closeClient();
    otpIds.push(...await requestMany([otpd], CODES / 2));
    const rows = await database.query('SELECT DISTINCT HEX(owner) AS owner FROM outbox');
    for (const { owner } of rows) owners.add(String(owner));
    return owners.size === 2;
  });
  await untilAllSent();
  assertAcceptedOnce(otpIds);
});

test('a provider that never answers delays no request, and a stop releases every message',
  async () => {
    provider.behave(() => hang);
    const first = await start('/first');
    const otpIds = await requestMany([first]);
    // Every request got its 201 before the provider answered any call.
    assert.ok(provider.calls.length > 0);
    assert.ok(provider.calls.every(({ isAnswered }) => !isAnswered));
    assert.is(await unsent(), CODES);

    first.signal('SIGTERM');
    assert.is(await promptly(() => first.ended, STOP_MAX_MS), 0, first.output());
    assert.is(await unsent(), CODES);
    assert.is(await leased(), 0, 'every lease is released');
    const calls = provider.calls.length;

    provider.behave(() => answer(204));
    const second = await start('/second');
    await untilAllSent();
    assertAcceptedOnce(otpIds);
    assert.equal(new Set(provider.calls.slice(calls).map(({ sender }) => sender)),
      new Set(['/second']));
    const counts = second.output().matchAll(/"delivery_taken_over","count":(\d+)/g);
    assert.is([...counts].reduce((sum, [, count]) => sum + Number(count), 0), CODES);
    for (const all of groupByOtp(provider.calls).values()) {
      assert.is(new Set(all.map(({ code, webhookId }) => `${code} ${webhookId}`)).size, 1);
    }
  });

test('a process that stops marks accepted messages before it exits', async () => {
  provider.behave(() => slow(500, answer(200)));
  const otpd = await start('/stopping');
  const otpIds = await requestMany([otpd], 40);
  await eventually('all calls have arrived', () => provider.calls.length === 40);
  otpd.signal('SIGTERM');
  assert.is(await otpd.ended, 0);
  assert.is(await unsent(), 0);
  assertAcceptedOnce(otpIds);
});

test('a process that was paused beyond its leases sends nothing that others have sent',
  async () => {
    provider.behave(() => tooMany(2));
    const sleeper = await start('/sleeper');
    const otpIds = await requestMany([sleeper], 40);
    await eventually('all are delayed', () => /"channel_paused"/.test(sleeper.output()));
    await stopBetweenTransactions(sleeper);
    // A call that the stopped process has sent arrives before another process starts.
    await start('/other');
    provider.behave(() => answer(200));
    await untilAllSent();
    assert.equal([...sendersOf()], ['/other']);
    sleeper.signal('SIGCONT');
    // The resumed process closes connections that were idle for longer than its keep-alive timeout.
    closeClient();
    // The delayed messages are overdue, so they would be sent before this new one.
    otpIds.push(await request(sleeper));
    await untilAllSent();
    assertAcceptedOnce(otpIds);
    const status = await send({
      method: 'GET', port: sleeper.port, path: `/otp/${otpIds[0]}`,
    });
    assert.is(status.body.status, 'sent');
  });

test('no process logs an internal error', () => {
  assert.equal(loggedErrors(), []);
});

test.run();
