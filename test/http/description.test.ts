/**
 * Every operation gives the errors that it has in common with others. The description check at the
 * end of the lane compares the responses with openapi.json, and finds those that nobody has seen.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createConfig, lintFromString } from '@redocly/openapi-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parse } from 'yaml';
import { Unavailable } from '../../src/db/errors.ts';
import { SCOPES } from '../../src/http/input/api-keys.ts';
import type { ErrorCode } from '../../src/http/response.ts';
import { newApiClients } from '../harness/api-clients.ts';
import { DescriptionCheck, readDescription } from '../harness/description-check.ts';
import { DESCRIPTION, ROOT } from '../harness/program.ts';
import { OTP_ID, startAdminServer, startServer, stopServers } from './fake-service.ts';
import type { FakeOptions } from './fake-service.ts';
import { exchange } from './raw-client.ts';

type Listener = 'main' | 'admin';

type Operation = Readonly<{
  method: string;
  path: string;
  listener: Listener;
  /** The type and the text of a body; null for an operation that needs none. */
  content: readonly [type: string, text: string] | null;
  /** Whether it needs an API key where there are API keys. */
  isProtected: boolean;
  /** Whether it can fail. */
  usesService: boolean;
}>;

const NAMES = '"user_id":"u","purpose":"p"';
const JSON_TYPE = 'application/json';
const FORM_TYPE = 'application/x-www-form-urlencoded';
const REPORT = `/sms/status/${OTP_ID}/k1/${'a'.repeat(40)}`;

function operation(
  name: string,
  listener: Listener = 'main',
  { content = null, isProtected = false, usesService = false }: Partial<Operation> = {},
): Operation {
  const [method = '', path = ''] = name.split(' ');
  return { method, path, listener, content, isProtected, usesService };
}

const SERVED = { isProtected: true, usesService: true };

const OPERATIONS: readonly Operation[] = [
  operation('POST /otp/request', 'main', { ...SERVED, content: [JSON_TYPE, `{${NAMES}}`] }),
  operation('POST /otp/verify', 'main', {
    ...SERVED, content: [JSON_TYPE, `{${NAMES},"code":"000000"}`],
  }),
  operation(`GET /otp/${OTP_ID}`, 'main', SERVED),
  operation(`HEAD /otp/${OTP_ID}`, 'main', SERVED),
  operation(`DELETE /otp/${OTP_ID}`, 'main', SERVED),
  operation(`POST ${REPORT}`, 'main', {
    usesService: true, content: [FORM_TYPE, 'MessageStatus=sent'],
  }),
  operation('GET /openapi.json'), operation('HEAD /openapi.json'),
  operation('GET /livez', 'admin'), operation('HEAD /livez', 'admin'),
  operation('GET /support', 'admin'), operation('HEAD /support', 'admin'),
  operation('GET /users/u', 'admin', SERVED), operation('HEAD /users/u', 'admin', SERVED),
  ...['unlock', 'revoke'].map((what) =>
    operation(`POST /users/u/${what}`, 'admin', { ...SERVED, content: [JSON_TYPE, '{}'] })),
  ...['/readyz', '/metrics'].flatMap((path) => ['GET', 'HEAD'].map((method) =>
    operation(`${method} ${path}`, 'admin', { usesService: true }))),
];

/** Support exists with API keys only. */
const ADMIN = newApiClients(['admin'], ['admin']);

/** A request with additional lines, and with other values for lines that it has. */
function call(one: Operation, lines: Record<string, string> = {}): string {
  const { method, path, content, listener, isProtected } = one;
  const [type, body] = content ?? [null, ''];
  const all = {
    Host: 'localhost', 'Idempotency-Key': 'k', 'Content-Length': String(body.length),
    ...(type === null ? {} : { 'Content-Type': type }),
    ...(listener === 'admin' && isProtected ? ADMIN.headersOf('admin') : {}), ...lines,
  };
  const head = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`).join('');
  return `${method} ${path} HTTP/1.1\r\n${head}\r\n${body}`;
}

/** Sends a request to each operation, and expects the same of all. */
async function expectOfAll(
  operations: readonly Operation[],
  start: (listener: Listener) => Promise<{ port: number }>,
  lines: Record<string, string>,
  status: number,
  error: ErrorCode | null,
): Promise<void> {
  const ports = { main: (await start('main')).port, admin: (await start('admin')).port };
  for (const one of operations) {
    const isHead = one.method === 'HEAD';
    const got = await exchange(ports[one.listener], call(one, lines), { noBody: isHead });
    assert.is(got.status, status, `${one.method} ${one.path}`);
    if (!isHead && error !== null) assert.match(got.body, `"error":"${error}"`);
  }
}

const REPORTING: FakeOptions = { report: async () => ({ kind: 'noted' }) };

/** Starts either listener with short time limits. */
function startEither(listener: Listener, limits: FakeOptions['limits'] = {}) {
  return listener === 'admin' ? startAdminServer({ limits, apiKeys: ADMIN.apiKeys })
    : startServer({ ...REPORTING, limits });
}

test.after.each(stopServers);

/** Lines that are refused, whatever the operation. */
const REFUSED: readonly [string, Record<string, string>, number, ErrorCode][] = [
  ['a malformed message', { 'Transfer-Encoding': 'gzip', 'Content-Length': '0' }, 400,
    'invalid_request'],
  ['an origin that is not allowed', { Origin: 'https://evil.example' }, 403, 'origin_not_allowed'],
  ['a body over 4 KiB', { 'Content-Length': '5000' }, 413, 'payload_too_large'],
  ['an unknown expectation', { Expect: 'x' }, 417, 'expectation_failed'],
  ['a header section over 16 KiB', { 'X-Long': 'x'.repeat(20_000) }, 431, 'headers_too_large'],
];

for (const [title, lines, status, error] of REFUSED) {
  test(`every operation answers ${status} to ${title}`, async () => {
    await expectOfAll(OPERATIONS, startEither, lines, status, error);
  });
}

test('every operation answers 408 to a body that does not arrive', async () => {
  const limits = { headersTimeoutMs: 500, requestTimeoutMs: 500, checkIntervalMs: 20 };
  const ports = {
    main: (await startEither('main', limits)).port,
    admin: (await startEither('admin', limits)).port,
  };
  await Promise.all(OPERATIONS.map(async (one) => {
    const noBody = one.method === 'HEAD';
    const bytes = call(one, { 'Content-Length': '1000' });
    assert.is((await exchange(ports[one.listener], bytes, { noBody })).status, 408);
  }));
});

test('every operation answers 503 when there are too many requests', async () => {
  const start = (listener: Listener) => startEither(listener, { requestsMax: 0 });
  const none = operation('GET /');
  await expectOfAll([...OPERATIONS, none], start, {}, 503, 'unavailable');
});

test('an operation that fails answers 500, and 503 when the database is away', async () => {
  const serving = OPERATIONS.filter(({ usesService }) => usesService);
  for (const [status, error, cause] of [
    [500, 'internal', new Error('a bug')], [503, 'unavailable', new Unavailable('away')],
  ] as const) {
    const fail = async (): Promise<never> => { throw cause; };
    const start = (listener: Listener) => (listener === 'admin'
      ? startAdminServer({ failedChecks: fail, apiKeys: ADMIN.apiKeys,
        support: { show: fail, unlock: fail, revoke: fail } })
      : startServer({ request: fail, verify: fail, status: fail, cancel: fail, report: fail }));
    await expectOfAll(serving, start, {}, status, error);
  }
});

test('an operation with a body answers 415 to another type', async () => {
  const reading = OPERATIONS.filter(({ content }) => content !== null);
  const lines = { 'Content-Type': 'text/plain' };
  await expectOfAll(reading, startEither, lines, 415, 'unsupported_media_type');
});

test('an operation needs an API key with its scope, and a valid X-Client-IP', async () => {
  const { apiKeys, headersOf } = newApiClients(['none', 'all'],
    (name) => (name === 'all' ? SCOPES : ['to']));
  const start = (listener: Listener) => (listener === 'admin' ? startAdminServer({ apiKeys })
    : startServer({ ...REPORTING, apiKeys }));
  const guarded = OPERATIONS.filter(({ isProtected }) => isProtected);
  await expectOfAll(guarded, start, {}, 401, 'unauthorized');
  await expectOfAll(guarded, start, headersOf('none'), 403, 'forbidden');
  const named = { ...headersOf('all'), 'X-Client-IP': '1.2.3' };
  await expectOfAll(guarded, start, named, 400, 'invalid_request');
  // Without a key the header names no client, so nothing reads it.
  const ports = { main: (await start('main')).port, admin: (await start('admin')).port };
  for (const one of OPERATIONS.filter(({ isProtected }) => !isProtected)) {
    const bytes = call(one, { 'X-Client-IP': '1.2.3' });
    const got = await exchange(ports[one.listener], bytes, { noBody: one.method === 'HEAD' });
    assert.ok(got.status < 300, one.path);
  }
});

test('an admin operation answers 421 to another host', async () => {
  const admin = OPERATIONS.filter(({ listener }) => listener === 'admin');
  const lines = { Host: 'evil.example' };
  await expectOfAll(admin, startEither, lines, 421, 'misdirected_request');
});

test('the admin listener answers its operations, and 503 while a check fails', async () => {
  const admin = OPERATIONS.filter(({ listener }) => listener === 'admin');
  await expectOfAll(admin, startEither, {}, 200, null);
  const failing = () => startAdminServer({ failedChecks: async () => ['database'] });
  const ready = admin.filter(({ path }) => path === '/readyz');
  await expectOfAll(ready, failing, {}, 503, 'not_ready');
});

test('GET /openapi.json returns the description, and needs no API key', async () => {
  const { apiKeys } = newApiClients(['read']);
  const { port, calls } = await startServer({ apiKeys });
  const get = await exchange(port, 'GET /openapi.json?x HTTP/1.1\r\nHost: a\r\n\r\n');
  assert.is(get.status, 200);
  assert.is(Buffer.from(get.body, 'latin1').toString(), DESCRIPTION.toString());
  assert.is(get.headers.get('content-type'), 'application/json');
  assert.is(get.headers.get('cache-control'), 'no-store');
  const head = await exchange(port, 'HEAD /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n',
    { noBody: true });
  assert.is(head.headers.get('content-length'), String(DESCRIPTION.length));
  const put = await exchange(port, 'PUT /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n');
  assert.is(`${put.status} ${put.headers.get('allow')}`, '405 GET, HEAD');
  assert.equal(calls, []);
});

test('openapi.json is openapi.yaml: npm run api-description writes it', () => {
  const source = parse(readFileSync(join(ROOT, 'openapi.yaml'), 'utf8')) as unknown;
  assert.is(DESCRIPTION.toString(), `${JSON.stringify(source, null, 1)}\n`);
});

test('the description has no fault that a linter finds', async () => {
  const problems = await lintFromString({
    source: readFileSync(join(ROOT, 'openapi.yaml'), 'utf8'),
    absoluteRef: join(ROOT, 'openapi.yaml'),
    config: await createConfig({ extends: ['recommended-strict'] }),
  });
  assert.equal(problems.map(({ message, location: [place] }) => `${place?.pointer}: ${message}`),
    []);
});

test('the description has the version of the package', () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as
    { version: string };
  assert.is(readDescription().info.version, version);
});

test('every example of the description is valid', () => {
  assert.equal(new DescriptionCheck().wrongExamples(), []);
});

test('the description has each check of /readyz that docs/metrics.md lists', () => {
  const [, table = ''] = readFileSync(join(ROOT, 'docs/metrics.md'), 'utf8')
    .split('| check | fails when |\n');
  const [rows = ''] = table.split('\n\n');
  const checks = [...rows.matchAll(/^\| `(\w+)` /gm)].map(([, check]) => check);
  const { components } = parse(DESCRIPTION.toString()) as {
    components: { schemas: { NotReady: { properties: { failed: object } } } };
  };
  const { failed } = components.schemas.NotReady.properties;
  assert.equal((failed as { items: { enum: string[] } }).items.enum, checks);
});

test('the description check finds each kind of difference', () => {
  const headers = { 'x-request-id': 'r', 'cache-control': 'no-store',
    'x-content-type-options': 'nosniff', 'content-security-policy': "frame-ancestors 'none'",
    'content-type': JSON_TYPE, 'content-length': '26' };
  const right = { request: { method: 'GET', target: `/otp/${OTP_ID}` }, status: 404,
    headers: Object.entries(headers).flat(), body: '{"error":"otp_not_found"}', sent: null };
  const judge = (change: object): string => new DescriptionCheck().judge({ ...right, ...change });
  assert.is(judge({}), '');
  assert.match(judge({ status: 418 }), 'GET /otp/{otp_id} has no 418');
  assert.match(judge({ headers: right.headers.slice(2) }), 'x-request-id is missing');
  assert.match(judge({ headers: [...right.headers, 'Server', 'x'] }), 'server is not described');
  assert.match(judge({ headers: [...right.headers, 'Cache-Control', 'x'] }), 'must be equal to');
  assert.match(judge({ body: '{"error":"code_used"}' }), 'must be equal to constant');
  assert.match(judge({ body: '{"error":"otp_not_found","a":1}' }), 'additional properties');
  assert.match(judge({ body: 'no JSON' }), 'must be object');
  const typed = Object.entries({ ...headers, 'content-type': 'text/html' }).flat();
  assert.match(judge({ headers: typed }), 'the content type text/html is not described');
  assert.match(judge({ request: { method: 'DELETE', target: '/x' } }), 'other requests 404');
  const check = new DescriptionCheck();
  const name = 'GET /otp/{otp_id} 404 otp_not_found';
  assert.ok(check.unseen().includes(name));
  check.judge(right);
  assert.not.ok(check.unseen().includes(name));
});

test.run();
