/** Health and metrics on the admin listener of a real process, also while MySQL fails. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fetchAnswer } from '../harness/answer-recorder.ts';
import { closeClient, post, send } from '../harness/client.ts';
import { variablesFor } from '../harness/command.ts';
import { parseExposition, valueOf } from '../harness/exposition.ts';
import type { Metric } from '../harness/exposition.ts';
import { startOtpd } from '../harness/otpd.ts';
import type { Otpd } from '../harness/otpd.ts';
import { ROOT } from '../harness/program.ts';
import { eventually, promptly } from '../harness/waiting.ts';
import { exchange, openClient } from '../http/raw-client.ts';
import { startDurableServer } from '../proof/durable-server.ts';
import type { DurableServer } from '../proof/durable-server.ts';

const PAGE = readFileSync(join(ROOT, 'docs/metrics.md'), 'utf8');

const APP = 'https://app.example.com';

let server: DurableServer;
let otpd: Otpd;
let first: ReadonlyMap<string, Metric>;

test.before(async () => {
  server = await startDurableServer();
  const { socketPath, database } = server.settings;
  otpd = await startOtpd(variablesFor(database!, {
    DB_SOCKET: socketPath!, ADMIN_ALLOWED_HOSTS: 'otpd.test', ALLOWED_ORIGINS: APP,
  }));
  first = await scrape();
});
test.after(async () => {
  closeClient();
  otpd.stop();
  await otpd.ended;
  await server.stop();
});

function ask(path: string, options: RequestInit = {}): Promise<Response> {
  return fetchAnswer(`http://127.0.0.1:${otpd.adminPort}${path}`, options);
}

async function scrape(): Promise<Map<string, Metric>> {
  return parseExposition(await (await ask('/metrics')).text());
}

/** Status and body of /readyz, which must not hang. */
async function readiness(): Promise<[number, unknown]> {
  const result = await promptly(() => ask('/readyz'));
  return [result.status, await result.json()];
}

const READY = [200, { status: 'ready' }];
const unready = (...failed: string[]) => [503, { error: 'not_ready', failed }];

async function becomes(expected: unknown): Promise<void> {
  const wanted = JSON.stringify(expected);
  await eventually(wanted, async () => JSON.stringify(await readiness()) === wanted);
}

/** Asks until the answer is 200: on a busy machine a check may not end in its time. */
async function askHealthy(path: string, options: RequestInit = {}): Promise<Response> {
  let reply = await ask(path, options);
  await eventually(`${path} is 200`, async () => {
    if (reply.status !== 200) reply = await ask(path, options);
    return reply.status === 200;
  });
  return reply;
}

async function asRoot(...statements: string[]): Promise<void> {
  for (const sql of statements) await server.database.query(sql);
}

test('health answers GET and HEAD with no-store and names no version', async () => {
  for (const [path, status] of [['/livez', 'alive'], ['/readyz', 'ready']]) {
    const body = JSON.stringify({ status });
    const reply = await askHealthy(`${path}?verbose`);
    assert.is(await reply.text(), body);
    assert.is(reply.headers.get('content-type'), 'application/json');
    assert.is(reply.headers.get('cache-control'), 'no-store');
    assert.is(reply.headers.get('server'), null);
    const head = await askHealthy(path!, { method: 'HEAD' });
    assert.is(head.headers.get('content-length'), String(body.length));
    assert.is(await head.text(), '');
  }
});

test('every other path is 404 and every other method is 405', async () => {
  for (const path of ['/', '/livez/', '/LIVEZ', '/otp/request', '/otp/verify', '/metrics/x',
    `/otp/${'0'.repeat(32)}`]) {
    const reply = await ask(path);
    assert.is(reply.status, 404, path);
    assert.equal(await reply.json(), {
      error: 'not_found', message: 'the paths are /livez, /readyz and /metrics',
    });
  }
  for (const path of ['/livez', '/readyz', '/metrics']) {
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
      const reply = await ask(path, { method });
      assert.is(reply.status, 405, method);
      assert.is(reply.headers.get('allow'), 'GET, HEAD');
      assert.equal(await reply.json(), {
        error: 'method_not_allowed', message: 'use GET or HEAD',
      });
    }
  }
  const client = await openClient(otpd.adminPort);
  client.send('CONNECT a:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n');
  const refused = await client.readResponse();
  assert.is(refused.status, 405);
  assert.match(refused.head, /\r\nAllow: GET, HEAD/);
  client.destroy();
});

test('another name of the host is 421, and a page in a browser is refused', async () => {
  for (const path of ['/metrics', '/readyz', '/livez', '/none']) {
    for (const [lines, status, error] of [
      ['Host: evil.example:45000', 421, 'misdirected_request'],
      ['Host: evil.example:45000\r\nOrigin: http://evil.example:45000', 421,
        'misdirected_request'],
      ['Host: localhost\r\nOrigin: http://evil.example:45000', 403, 'origin_not_allowed'],
    ] as const) {
      const got = await exchange(otpd.adminPort, `GET ${path} HTTP/1.1\r\n${lines}\r\n\r\n`);
      assert.is(`${got.status} ${(JSON.parse(got.body) as { error: string }).error}`,
        `${status} ${error}`);
    }
  }
  const own = await exchange(otpd.adminPort,
    'GET /livez HTTP/1.1\r\nHost: Otpd.Test:1\r\n\r\n');
  assert.is(own.status, 200);
  const page = `GET /livez HTTP/1.1\r\nHost: localhost\r\nOrigin: ${APP}\r\n\r\n`;
  const allowed = await exchange(otpd.adminPort, page);
  assert.is(`${allowed.status} ${allowed.headers.get('access-control-allow-origin')}`,
    `200 ${APP}`);
});

test('the public listener has no health and no metrics', async () => {
  for (const path of ['/livez', '/readyz', '/metrics']) {
    const reply = await send({ port: otpd.port, path, method: 'GET' });
    assert.is(reply.status, 404);
    assert.is(reply.body.error, 'not_found');
  }
});

test('every metric exists from the start and is in docs/metrics.md', async () => {
  const reply = await ask('/metrics');
  assert.is(reply.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
  assert.is(reply.headers.get('cache-control'), 'no-store');
  const row = /^\| `((?:otpd|process|nodejs)_\w+)(?:\{([\w, ]+)\})?` \| (\w+) \|/gm;
  const described = [...PAGE.matchAll(row)]
    .map(([, name, labels = '', type]) => `${name} ${labels.split(', ').sort()} ${type}`);
  const exposed = [...first.values()].map(({ name, type, lines }) => {
    const labels = Object.keys(lines[0]!.labels).filter((label) => label !== 'le');
    return `${name} ${labels.sort()} ${type}`;
  });
  assert.equal(exposed.sort(), described.sort());
  assert.is((await ask('/metrics', { method: 'HEAD' })).status, 200);
});

test('a read-only server makes otpd not ready until it accepts writes again', async () => {
  await becomes(READY);
  for (const name of ['read_only', 'super_read_only']) {
    await asRoot(`SET GLOBAL ${name} = 1`);
    await becomes(unready('read_only'));
    await asRoot('SET GLOBAL super_read_only = 0', 'SET GLOBAL read_only = 0');
    await becomes(READY);
  }
});

test('an unfinished migration makes otpd not ready, and an unknown one does not', async () => {
  await asRoot('UPDATE schema_migrations SET finished_at = NULL WHERE version = 7');
  await becomes(unready('schema'));
  // During an upgrade another machine may already have migrated the database.
  await asRoot('UPDATE schema_migrations SET finished_at = NOW(6) WHERE version = 7',
    "INSERT INTO schema_migrations VALUES (99, 'later', NOW(6), NOW(6))");
  await becomes(READY);
  await asRoot('DELETE FROM schema_migrations WHERE version = 99');
  await becomes(READY);
});

test('a MySQL that hangs or dies makes otpd not ready in time, and otpd stays alive', async () => {
  process.kill(server.processId(), 'SIGSTOP');
  await becomes(unready('database'));
  const probes = await Promise.all(Array.from({ length: 20 }, readiness));
  assert.equal(probes, probes.map(() => unready('database')));
  assert.is((await ask('/livez')).status, 200);
  assert.is(valueOf(await scrape(), 'otpd_ready'), 0);
  process.kill(server.processId(), 'SIGCONT');
  await becomes(READY);
  await server.kill();
  await becomes(unready('database'));
  assert.is((await ask('/livez')).status, 200);
  await server.start();
  await becomes(READY);
});

let keys = 0;

async function request(user: string, key = `k${keys += 1}`): Promise<number> {
  const body = { user_id: user, purpose: 'login' };
  return (await post({ port: otpd.port, path: '/otp/request', key, body })).status;
}

async function verify(user: string, code: string): Promise<number> {
  const body = { user_id: user, purpose: 'login', code };
  return (await post({ port: otpd.port, path: '/otp/verify', body })).status;
}

async function statusesOf(count: number, work: () => Promise<number>): Promise<number[]> {
  const statuses: number[] = [];
  for (let at = 0; at < count; at += 1) statuses.push(await work());
  return statuses;
}

function another(code: string): string {
  return String((Number(code) + 1) % 1_000_000).padStart(6, '0');
}

test('the counters grow by exactly what happened', async () => {
  const before = await scrape();
  assert.equal(await statusesOf(2, () => request('U1', 'same')), [201, 201]);
  await eventually('a code is printed', () => otpd.codes().length === 1);
  const [code] = otpd.codes();
  assert.is(await verify('U1', another(code!)), 401);
  assert.is(await verify('U1', code!), 200);
  assert.equal(await statusesOf(5, () => request('U2')), [201, 201, 201, 429, 429]);
  await eventually('four codes are printed', () => otpd.codes().length === 4);
  const wrong = another(otpd.codes().at(-1)!);
  assert.equal(await statusesOf(4, () => verify('U2', wrong)), [401, 401, 429, 429]);
  assert.equal(await statusesOf(4, () => request(`U${keys}`)), [201, 201, 201, 201]);
  assert.is(await request('U9'), 429);
  await send({ port: otpd.port, path: `/otp/${'0'.repeat(32)}`, method: 'GET' });
  await eventually('every message is sent', () => otpd.codes().length === 8);
  let after = before;
  await eventually('every delivery is counted', async () => {
    after = await scrape();
    return valueOf(after, 'otpd_outbox_messages') === 0;
  });
  const grown = (name: string, labels: Record<string, string> = {}): number =>
    valueOf(after, name, labels) - valueOf(before, name, labels);
  const requests = (route: string, status: string): number =>
    grown('otpd_http_requests_total', { route, code: status });
  assert.is(requests('/otp/request', 'issued'), 9);
  assert.is(requests('/otp/request', 'rate_limit_exceeded'), 3);
  assert.is(requests('/otp/verify', 'verified'), 1);
  assert.is(requests('/otp/verify', 'invalid_code'), 3);
  assert.is(requests('/otp/verify', 'too_many_attempts'), 2);
  assert.is(requests('/otp/{otp_id}', 'otp_not_found'), 1);
  assert.is(grown('otpd_codes_issued_total'), 8);
  assert.is(grown('otpd_codes_redeemed_total'), 1);
  assert.is(grown('otpd_codes_wrong_total'), 4);
  assert.is(grown('otpd_locks_total'), 1);
  assert.is(grown('otpd_requests_limited_total', { limit: 'user' }), 2);
  assert.is(grown('otpd_requests_limited_total', { limit: 'address' }), 1);
  assert.is(grown('otpd_deliveries_total', { channel: 'console', result: 'accepted' }), 8);
  assert.is(grown('otpd_deliveries_total', { channel: 'console', result: 'retry' }), 0);
  // Screening starts after the first refusal of a limit.
  assert.is(grown('otpd_batch_size_count', { queue: 'screen' }), 1);
  assert.is(grown('otpd_batch_size_sum', { queue: 'issue' }), 11);
  assert.is(grown('otpd_batch_size_sum', { queue: 'verify' }), 6);
  assert.is(grown('otpd_batch_size_count', { queue: 'status' }), 1);
  assert.is(valueOf(after, 'otpd_queue_depth', { queue: 'issue' }), 0);
});

test('no series appears later, every request is timed and no value is negative', async () => {
  await post({ port: otpd.port, path: `/${'x'.repeat(50)}`, body: '{' });
  let after = await scrape();
  // On a busy machine a check may not end in its time.
  await eventually('otpd is ready', async () => {
    after = await scrape();
    return valueOf(after, 'otpd_ready') === 1;
  });
  const seriesOf = (metrics: ReadonlyMap<string, Metric>): string[] => [...metrics.values()]
    .flatMap(({ lines }) => lines.map(({ name, labels }) => name + JSON.stringify(labels)));
  assert.equal(seriesOf(after), seriesOf(first));
  for (const route of ['/otp/request', '/otp/verify', '/otp/{otp_id}', 'other']) {
    const answers = after.get('otpd_http_requests_total')!.lines
      .filter(({ labels }) => labels.route === route).reduce((sum, { value }) => sum + value, 0);
    assert.is(valueOf(after, 'otpd_http_request_duration_seconds_count', { route }), answers);
  }
  const values = [...after.values()].flatMap(({ lines }) => lines.map(({ value }) => value));
  assert.ok(values.every((value) => value >= 0));
  assert.ok(valueOf(after, 'otpd_resident_memory_bytes', { worker: '0' }) > 10_000_000);
  const own = (name: string): number => valueOf(after, name, { worker: '0' });
  assert.is(own('process_resident_memory_bytes'), own('otpd_resident_memory_bytes'));
  assert.ok(own('process_cpu_seconds_total') > 0.05);
  assert.ok(Math.abs(Date.now() / 1000 - own('process_start_time_seconds')
    - own('otpd_uptime_seconds')) < 60);
  assert.ok(own('process_open_fds') > 5 && own('process_open_fds') < own('process_max_fds'));
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  assert.is(valueOf(after, 'otpd_build_info', { version, node: process.version }), 1);
  assert.ok(valueOf(after, 'otpd_event_loop_delay_p99_seconds', { worker: '0' }) < 5);
  assert.ok(valueOf(after, 'otpd_pool_sessions', { state: 'idle' }) >= 1);
  assert.is(valueOf(after, 'otpd_pool_size'), 16);
});

test('SIGTERM makes otpd not ready at once, and alive until the last response', async () => {
  const body = '{"user_id":"U1","purpose":"login","code":"000000"}';
  const client = await openClient(otpd.port);
  client.send(`POST /otp/verify HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n`
    + `Content-Length: ${body.length}\r\nExpect: 100-continue\r\n\r\n`);
  assert.is((await client.readResponse({ noBody: true })).status, 100);
  otpd.stop();
  await eventually('otpd is not ready', async () => (await readiness())[0] === 503);
  assert.equal(await readiness(), unready('stopping'));
  assert.is((await ask('/livez')).status, 200);
  client.send(body);
  assert.is((await client.readResponse()).status, 410);
  client.destroy();
  assert.is(await otpd.ended, 0);
});

test.run();
