/** otpd behind a real nginx with keep-alive: no 502, the right clients, no smuggled request. */
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ignoreAnswersOfProxy } from '../harness/answer-recorder.ts';
import { closeClient, send } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { newVariables } from '../harness/command.ts';
import type { Variables } from '../harness/command.ts';
import { createTestDatabase } from '../harness/database.ts';
import { GENEROUS_POLICY } from '../harness/otpd-on.ts';
import { startOtpd } from '../harness/otpd.ts';
import type { Otpd } from '../harness/otpd.ts';
import { eventually } from '../harness/waiting.ts';
import { exchange, openClient, post as textOf } from '../http/raw-client.ts';
import { atOnce, fresh } from './load.ts';
import { startNginx } from './nginx.ts';
import type { Nginx } from './nginx.ts';

const KEEP_ALIVE_SECONDS = 2;
const CLIENTS = 16;
const ROLL_MAX_MS = 120_000;

/** Just below the time that otpd promises. */
const IDLE_MS = KEEP_ALIVE_SECONDS * 1000 - 50;

ignoreAnswersOfProxy();

test.after(closeClient);

type Behind = Readonly<{ otpd: Otpd; nginx: Nginx }>;

/** Runs work on an otpd with a new database behind nginx, and stops both. */
async function behindNginx(variables: Variables, work: (behind: Behind) => Promise<void>) {
  const otpd = await startOtpd({
    ...await newVariables(), TRUSTED_PROXIES: '127.0.0.1',
    HTTP_KEEP_ALIVE_SECONDS: String(KEEP_ALIVE_SECONDS), ...variables,
  });
  try {
    const nginx = await startNginx(otpd.port);
    await work({ otpd, nginx })
      .catch((error: Error) => {
        throw new Error(`${error.message}\n${nginx.errors()}`, { cause: error });
      })
      .finally(nginx.stop);
  } finally {
    otpd.stop();
    await otpd.ended;
  }
}

/** Requests a code for a new user; on a busy machine otpd answers 503, and the key is repeated. */
async function request({ port }: Nginx, address?: string): Promise<Reply> {
  const user = fresh('u');
  for (;;) {
    const reply = await send({
      port, path: '/otp/request', key: user, body: { user_id: user, purpose: 'login' }, address,
    });
    if (reply.status !== 503 || reply.body.error !== 'unavailable') return reply;
  }
}

test('a request after an idle time just below the promised one is answered, and never 502',
  () => behindNginx({ POLICY_FILE: GENEROUS_POLICY }, async ({ nginx }) => {
    for (let round = 0; round < 2; round += 1) {
      const replies = await Promise.all(Array.from({ length: CLIENTS }, () => request(nginx)));
      assert.equal(replies.map(({ status }) => status), replies.map(() => 201));
      await delay(IDLE_MS);
    }
    assert.is((await request(nginx)).status, 201);
    assert.not.match(nginx.errors(), /upstream/);
  }));

test('requests during rolling restarts are all answered, and none is 502',
  () => behindNginx({ POLICY_FILE: GENEROUS_POLICY, WORKERS: '2' }, async ({ otpd, nginx }) => {
    const statuses = new Map<number, number>();
    let isOver = false;
    const clients = atOnce(CLIENTS, async () => {
      while (!isOver) {
        const { status } = await request(nginx);
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      }
    });
    try {
      for (const roll of [1, 2, 3]) {
        otpd.signal('SIGUSR2');
        await eventually(`${roll} rolls`,
          () => otpd.output().split('"event":"roll_finished"').length - 1 === roll, ROLL_MAX_MS);
      }
    } finally {
      isOver = true;
      await clients;
    }
    assert.equal([...statuses.keys()], [201], nginx.errors());
    assert.ok(statuses.get(201)! > CLIENTS * 10, `${statuses.get(201)} requests`);
  }));

test('a stop during traffic leaves no request of otpd without an answer', async () => {
  const database = await createTestDatabase();
  const variables = { POLICY_FILE: GENEROUS_POLICY, DB_NAME: database.settings.database! };
  await behindNginx(variables, async ({ otpd, nginx }) => {
    let answered = 0;
    let isOver = false;
    const clients = atOnce(CLIENTS, async () => {
      while (!isOver) {
        const user = fresh('u');
        const body = JSON.stringify({ user_id: user, purpose: 'login' });
        const got = await exchange(nginx.port,
          textOf('/otp/request', body, { 'Idempotency-Key': user }));
        if (got.status === 201) answered += 1;
        // otpd refuses with its own body; nginx answers when otpd is gone.
        else assert.match(`${got.status} ${got.body}`, /^502 <html>|^503 {"error":"unavailable"}$/);
      }
    });
    try {
      await eventually('there is load', () => answered > CLIENTS * 5);
      otpd.stop();
      assert.is(await otpd.ended, 0);
    } finally {
      isOver = true;
      await clients;
    }
    assert.match(otpd.output(), /^stopped$/m);
    // A message that was not sent in time is in the outbox; its code counts as well.
    const [row] = await database.query('SELECT COUNT(*) AS issued FROM otps');
    assert.is(row?.issued, answered, 'a code was issued for exactly the answered requests');
  }).finally(database.close);
});

test('ten users from ten addresses are ten client IPs, and a client cannot forge one',
  () => behindNginx({}, async ({ nginx }) => {
    // nginx appends 127.0.0.1, a proxy, to what this client claims.
    for (let at = 1; at <= 10; at += 1) {
      assert.is((await request(nginx, `198.51.100.${at}`)).status, 201);
    }
    const statuses = [];
    for (let at = 1; at <= 9; at += 1) {
      statuses.push((await request(nginx, `203.0.113.${at}, 198.51.100.77`)).status);
    }
    assert.equal(statuses, [201, 201, 201, 201, 201, 201, 201, 201, 429]);
  }));

test('without TRUSTED_PROXIES the log says so once, and all users share one client IP',
  () => behindNginx({ TRUSTED_PROXIES: '' }, async ({ otpd, nginx }) => {
    const statuses = [];
    for (let at = 1; at <= 9; at += 1) {
      statuses.push((await request(nginx, `198.51.100.${at}`)).status);
    }
    assert.equal(statuses.slice(-2), [201, 429]);
    await otpd.prints('"event":"proxy_not_trusted"');
    assert.match(otpd.output(), /"proxy_not_trusted".*TRUSTED_PROXIES/);
    assert.is(otpd.output().split('proxy_not_trusted').length, 2);
  }));

test('ambiguous framing is refused or framed as one request, never as two',
  () => behindNginx({ POLICY_FILE: GENEROUS_POLICY }, async ({ otpd, nginx }) => {
    const hidden = textOf('/otp/request', '{"user_id":"smuggled","purpose":"login"}');
    const rows: Record<string, string | null>[] = [
      { 'Transfer-Encoding': 'chunked' }, { 'Transfer-Encoding': ' chunked' },
      { 'Transfer-Encoding': 'xchunked' }, { 'Transfer-Encoding': 'chunked, identity' },
      { 'Transfer-Encoding': 'identity\r\nTransfer-Encoding: chunked' },
      { 'Transfer-Encoding ': 'chunked' }, { 'X-A': 'b\r\n Transfer-Encoding: chunked' },
      { 'Content-Length': '5\r\nContent-Length: 6' }, { 'Content-Length': '+5' },
      { Connection: 'Content-Length' }, { Expect: '100-continue', 'Transfer-Encoding': 'chunked' },
      { Upgrade: 'h2c', Connection: 'Upgrade' },
    ];
    const before = otpd.codes().length;
    for (const headers of rows) {
      for (const body of [`0\r\n\r\n${hidden}`, hidden]) {
        const client = await openClient(nginx.port);
        client.send(textOf('/otp/none', body, headers));
        const { status } = await client.readResponse();
        assert.ok(status === 404 || status === 400 || status === 501, JSON.stringify(headers));
        client.destroy();
      }
    }
    assert.is(otpd.codes().length, before);
    assert.is((await request(nginx)).status, 201);
  }));

test('long bodies and header sections get the answers of otpd, and the next request is served',
  () => behindNginx({ POLICY_FILE: GENEROUS_POLICY }, async ({ nginx }) => {
    const body = '{"user_id":"u","purpose":"login"}';
    const rows: [string, number][] = [
      [textOf('/otp/request', `${body}${' '.repeat(4096)}`), 413],
      [textOf('/otp/request', ' '.repeat(500_000)), 413],
      [textOf('/otp/request', body, { 'X-A': 'a'.repeat(20_000) }), 431],
      [textOf('/otp/request', body, { 'X-A': 'a'.repeat(8_000) }), 201],
    ];
    for (const [bytes, status] of rows) {
      assert.is((await exchange(nginx.port, bytes)).status, status);
      assert.is((await request(nginx)).status, 201);
    }
  }));

test.run();
