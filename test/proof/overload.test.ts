/**
 * More requests than the queue holds while MySQL is stopped: those beyond the queue get a 503 at
 * once, queued ones are processed, and no request waits without a bound.
 */
import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient } from '../harness/client.ts';
import { startHttpSink } from '../harness/http-sink.ts';
import type { HttpSink } from '../harness/http-sink.ts';
import { startOtpdOn, stopAllOtpd } from '../harness/otpd-on.ts';
import type { Otpd } from '../harness/otpd.ts';
import { newSecretsText } from '../harness/service.ts';
import { eventually, timed } from '../harness/waiting.ts';
import { openConnection } from '../../src/db/connection.ts';
import { openClient, post } from '../http/raw-client.ts';
import type { RawResponse, RawClient } from '../http/raw-client.ts';
import { startDurableServer } from './durable-server.ts';
import type { DurableServer } from './durable-server.ts';
import { fresh, freshAddress, newEndUser } from './load.ts';

/**
 * The bound of docs/api.md, "Errors", is 3 s. Thousands of clients in one process exceed it on a
 * busy machine, so this test checks only that every wait is bounded.
 */
const ANSWER_MAX_MS = 60_000;

/** The bound of docs/api.md, "Errors". */
const ANSWERED_MAX_MS = 3000;

/** Requests beyond the queue are refused long before the 3 s of the queued ones end. */
const SHED_MAX_MS = 1000;

/** The queue holds 4,096 requests, and 3 batches of 128 run: these are 200 more. */
const REQUESTS = 4096 + 3 * 128 + 200;

/** A round that a busy machine has spoiled is repeated: a defect shows in every one. */
const ROUNDS_MAX_MS = 240_000;

/** The backlog of a listening socket is 511; a connection beyond it is delayed by a second. */
const CONNECTIONS_AT_ONCE = 200;

let server: DurableServer;
let provider: HttpSink;
let otpd: Otpd;

test.before(async () => {
  server = await startDurableServer();
  provider = await startHttpSink();
  otpd = await startOtpdOn({
    settings: server.settings, secrets: newSecretsText(), webhookUrl: provider.url,
    webhookSecrets: `whsec_${randomBytes(32).toString('base64')}`,
  });
});
test.after(async () => {
  closeClient();
  await stopAllOtpd();
  await provider.close();
  await server.stop();
});

type Asked = Readonly<{ answer: RawResponse; ms: number; bytes: string }>;

function requestOf({ user, address } = newEndUser()): string {
  return post('/otp/request', JSON.stringify({ user_id: user, purpose: 'login' }), {
    'Idempotency-Key': fresh('k'), 'X-Forwarded-For': address,
  });
}

async function ask(client: RawClient, bytes = requestOf()): Promise<Asked> {
  const { ms, result: answer } = await timed(() => {
    client.send(bytes);
    return client.readResponse();
  });
  assert.ok(ms < ANSWER_MAX_MS, `${answer.status} after ${Math.round(ms)} ms`);
  return { answer, ms, bytes };
}

async function openClients(count: number): Promise<RawClient[]> {
  const clients: RawClient[] = [];
  while (clients.length < count) {
    const size = Math.min(CONNECTIONS_AT_ONCE, count - clients.length);
    const opening = Array.from({ length: size }, () => openClient(otpd.port, ANSWER_MAX_MS));
    clients.push(...await Promise.all(opening));
  }
  return clients;
}

/** The logged durations of requests in the output from `start` on, in milliseconds. */
function durationsMs(start: number): number[] {
  const logged = otpd.output().slice(start).matchAll(/"duration_ms":([\d.]+)/g);
  return [...logged].map(([, ms]) => Number(ms));
}

/** Asserts the bound of docs/api.md, "Errors", by the clock of the service. */
async function assertAnsweredInTime(start: number, count: number): Promise<void> {
  await eventually('the requests are logged', () => durationsMs(start).length >= count);
  const slowest = Math.max(...durationsMs(start));
  assert.ok(slowest < ANSWERED_MAX_MS, `the slowest took ${slowest} ms`);
}

/**
 * The logged durations of requests that were refused because the queue was full, in milliseconds.
 */
function shedAfterMs(): number[] {
  const lines = otpd.output().split('\n').filter((line) => line.includes('too many requests wait'));
  return lines.map((line) => Number(/"duration_ms":([\d.]+)/.exec(line)?.[1]));
}

/**
 * Faults in which a COMMIT hangs: each returns how to end it. These tests come before the one with
 * many refusals, because only some of those are logged.
 */
const HANGING: Readonly<Record<string, () => Promise<() => Promise<void>>>> = {
  'a global read lock': async () => {
    const holder = await openConnection(server.settings);
    await holder.run('x', 'FLUSH TABLES WITH READ LOCK', []);
    return async () => holder.destroy();
  },
  'a stopped server': async () => {
    process.kill(server.processId(), 'SIGSTOP');
    return async () => { process.kill(server.processId(), 'SIGCONT'); };
  },
};

for (const [what, begin] of Object.entries(HANGING)) {
  test(`every request is answered within 3 s while COMMITs hang (${what})`, async () => {
    const clients = await openClients(64);
    const { answer, bytes } = await ask(clients[0]!);
    const otp = `/otp/${String(JSON.parse(answer.body).otp_id)}`;
    const { user_id: user } = JSON.parse(bytes.slice(bytes.indexOf('\r\n\r\n')));
    const wrong = JSON.stringify({ user_id: user, purpose: 'login', code: '000000' });
    // Few lines are logged for one client IP.
    const onOtp = (method: string) => () => `${method} ${otp} HTTP/1.1\r\nHost: a\r\n`
      + `X-Forwarded-For: ${freshAddress()}\r\n\r\n`;
    const others = [
      () => post('/otp/verify', wrong, { 'X-Forwarded-For': freshAddress() }),
      onOtp('GET'), onOtp('DELETE'),
    ];
    const start = otpd.output().length;
    const end = await begin();
    // The second requests find the first ones in every queue.
    await Promise.all(clients.map(async (client, index) => {
      for (const round of [0, 1]) {
        await ask(client, index % 4 === 0 ? others[(index / 4 + round) % 3]!() : requestOf());
      }
    }));
    await end();
    for (const client of clients) client.destroy();
    await assertAnsweredInTime(start, 128);
    const [client] = await openClients(1);
    await eventually('it works', async () => (await ask(client!)).answer.status === 201);
    client!.destroy();
  });
}

/**
 * Sends more requests than the queue holds while MySQL is stopped.
 *
 * @returns all of them, and how long those took that were refused because the queue was full
 */
async function overload(): Promise<{ asked: Asked[]; shedMs: number[] }> {
  const clients = await openClients(REQUESTS);
  const before = shedAfterMs().length;
  process.kill(server.processId(), 'SIGSTOP');
  // All requests are sent before the first is read. On a busy machine the clients would else be so
  // slow that the first requests time out before the last arrive, and the queue never fills up.
  otpd.signal('SIGSTOP');
  let isOver = false;
  const asking = Promise.all(clients.map((client) => ask(client)))
    .finally(() => { isOver = true; });
  otpd.signal('SIGCONT');
  await eventually('some are too many, or all have timed out', () =>
    isOver || shedAfterMs().length > before, 2 * ANSWER_MAX_MS);
  process.kill(server.processId(), 'SIGCONT');
  const asked = await asking;
  for (const client of clients) client.destroy();
  return { asked, shedMs: shedAfterMs().slice(before).sort((a, b) => a - b) };
}

test('requests beyond the queue get 503 at once, and queued ones a code or 503', async () => {
  let asked: Asked[] = [];
  // The clock of the service counts: the clients share one process and delay each other.
  await eventually('of the requests beyond the queue 95 % are refused at once', async () => {
    const { shedMs, ...round } = await overload();
    asked = round.asked;
    return (shedMs[Math.floor(shedMs.length * 0.95)] ?? Infinity) < SHED_MAX_MS;
  }, ROUNDS_MAX_MS);

  const issued = asked.filter(({ answer }) => answer.status === 201);
  const refused = asked.filter(({ answer }) => answer.status === 503);
  // On a busy machine the time of all may be over before MySQL continues: then none is issued.
  assert.is(issued.length + refused.length, REQUESTS);
  for (const { answer } of refused) {
    assert.is(answer.body, '{"error":"unavailable"}');
    assert.match(answer.headers.get('retry-after') ?? '', /^[1-9]\d*$/);
  }
  const [client] = await openClients(1);
  for (const { answer, bytes } of issued.slice(0, 50)) {
    const again = await ask(client!, bytes);
    assert.is(again.answer.body, answer.body);
    assert.is(again.answer.headers.get('idempotent-replayed'), 'true');
  }
  client!.destroy();
  const [row] = await server.database.query('SELECT COUNT(*) AS n FROM otps');
  assert.ok(Number(row?.n) >= issued.length);
});

test('a request after the overload gets a code, and few connections are open', async () => {
  const [client] = await openClients(1);
  await eventually('it works', async () => (await ask(client!)).answer.status === 201);
  client!.destroy();
  // MySQL notices later that a connection is closed.
  await eventually('few connections are open', async () => {
    const [row] = await server.database.query(`SELECT COUNT(*) AS n FROM
      information_schema.processlist WHERE db = ?`, [server.settings.database]);
    return Number(row?.n) <= 17;
  });
});

test.run();
