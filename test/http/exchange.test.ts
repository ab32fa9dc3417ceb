/** One request and its response, without a server and without a network. */
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  mustCloseConnection, openExchange, respondTo, routeHeaders,
} from '../../src/http/exchange.ts';
import type { Access, Exchange } from '../../src/http/exchange.ts';
import type { HandlerInput } from '../../src/http/handler.ts';
import { newKey, parseApiKeys } from '../../src/http/input/api-keys.ts';
import { parseTrustedProxies } from '../../src/http/input/client-ip.ts';
import { createHttpMeters } from '../../src/http/metrics.ts';
import { methodNotAllowed } from '../../src/http/response.ts';
import type { HttpResponse } from '../../src/http/response.ts';
import { createOtherRoute, createRoute } from '../../src/http/routes.ts';
import type { ClientAddress } from '../../src/otp/outcomes.ts';
import type { Routes } from '../../src/http/routes.ts';

const DONE: HttpResponse = { code: 'verified', body: '{}', headers: [], close: false };
const KEY = newKey({ name: 'app1', scopes: ['request'] });
const { proxies } = parseTrustedProxies('10.0.0.0/8');
const ORIGIN = 'https://a.example';
const browsers = { origins: new Set([ORIGIN]), hosts: null };
const PUBLIC: Access = { apiKeys: null, browsers, proxies };
const KEYED: Access = { apiKeys: parseApiKeys(KEY.entry).apiKeys, browsers, proxies };

const WAITING = ['Content-Length', '2', 'Expect', '100-continue'];
const BAD_KEY = { field: 'Idempotency-Key', message: 'is bad' };

/** The inputs of the handler, in order. */
const inputs: HandlerInput[] = [];

const { now, other } = createHttpMeters(() => 7);
const method = {
  content: 'json' as const,
  scopes: ['request' as const],
  parseKey: ([key = '']: readonly string[]) => (key === '!' ? BAD_KEY : key),
  handle: async (input: HandlerInput): Promise<HttpResponse> => {
    inputs.push(input);
    return DONE;
  },
};
const ROUTE = {
  ...createRoute('/p', other, { POST: method }),
  headersFor: ({ clientIp }: ClientAddress) => ['Counted', String(clientIp !== null)],
};
const OTHER = createOtherRoute(other, '/p');
const ROUTES: Routes = {
  fixed: new Map([['/p', ROUTE]]), otp: null, report: null, user: null, other: OTHER, now,
  connectNotAllowed: methodNotAllowed(['POST']),
};

type Given = Readonly<{
  method?: string;
  url?: string;
  /** Header lines beyond Host and Content-Type: names and values in turn. */
  lines?: readonly string[];
  /** Null: the body has not arrived. */
  body?: string | null;
  /** Null: the client has disconnected. */
  remoteAddress?: string | null;
}>;

/** A socket with a fixed remote address. */
function fakeSocket(remoteAddress: string | null): Socket {
  const socket = new Socket();
  Object.defineProperty(socket, 'remoteAddress', { value: remoteAddress ?? undefined });
  return socket;
}

/** Opens an exchange for a request as the parser would produce it. */
function open(given: Given = {}): Exchange {
  const { url = '/p', lines = [], body = '{}', remoteAddress = '192.0.2.1' } = given;
  const req = new IncomingMessage(fakeSocket(remoteAddress));
  Object.assign(req, {
    method: given.method ?? 'POST', url, httpVersionMajor: 1, httpVersionMinor: 1,
    complete: body !== null,
  });
  req.rawHeaders = ['Host', 'a', 'Content-Type', 'application/json', ...lines];
  if (body !== null) {
    req.push(body);
    req.push(null);
  }
  return openExchange(req, new ServerResponse(req), ROUTES);
}

test('openExchange reads the id, the route, the method and the start', () => {
  const exchange = open({ lines: ['X-Request-Id', 'r-1'] });
  assert.equal([exchange.requestId, exchange.path, exchange.startedAtMs], ['r-1', '/p', 7]);
  assert.is(exchange.route, ROUTE);
  assert.is(exchange.method, method);
  const unknown = open({ method: 'PUT', url: '/q?x' });
  assert.equal([unknown.path, unknown.route, unknown.method], ['/q', OTHER, undefined]);
  assert.match(unknown.requestId, /^[0-9a-f-]{36}$/);
});

test('the handler gets plain values, and the exchange keeps the client', async () => {
  inputs.length = 0;
  const lines = ['Idempotency-Key', 'k', 'Accept-Language', 'de', 'X-Forwarded-For', '1.1.1.1',
    'Content-Length', '2'];
  const direct = open({ lines });
  assert.is(await respondTo(direct, PUBLIC), DONE);
  const proxied = open({ lines, remoteAddress: '10.0.0.1' });
  assert.is(await respondTo(proxied, PUBLIC), DONE);
  const keyed = open({
    lines: [...lines, 'Authorization', `Bearer ${KEY.key}`, 'X-Client-IP', '::1'],
  });
  assert.is(await respondTo(keyed, KEYED), DONE);
  const common = {
    path: '/p', purposes: null, idempotencyKeys: ['k'], acceptLanguage: 'de',
    deviceTokens: '', body: '{}',
  };
  assert.equal(inputs.map(({ isConnected, answerByMs, body, ...rest }) =>
    ({ ...rest, body: String(body) })), [
    { ...common, scopes: [], apiClient: null, clientIp: '192.0.2.1', clientNet48: null },
    { ...common, scopes: [], apiClient: null, clientIp: '1.1.1.1', clientNet48: null },
    { ...common, scopes: ['request'], apiClient: 'app1', clientIp: '::/64', clientNet48: '::/48' },
  ]);
  assert.equal([direct.clientIp, proxied.clientIp, keyed.clientIp],
    ['192.0.2.1', '1.1.1.1', '::/64']);
  assert.equal([direct.apiClient, keyed.apiClient?.name], [null, 'app1']);
});

test('the first check that fails responds before the handler, with the headers of the route',
  async () => {
    inputs.length = 0;
    const auth = ['Authorization', `Bearer ${KEY.key}`];
    const type = ['Content-Type', 'text/plain'];
    const rows: [Given, Access, string][] = [
      [{ lines: ['Host', 'b', ...type] }, KEYED, 'invalid_request'],
      [{ url: 'x', lines: type }, KEYED, 'invalid_request'],
      [{ url: '/q', lines: type }, KEYED, 'not_found'],
      [{ method: 'PUT', lines: type }, KEYED, 'method_not_allowed'],
      [{ lines: type }, KEYED, 'unauthorized'],
      [{ lines: [...auth, ...type, 'Expect', 'x'] }, KEYED, 'expectation_failed'],
      [{ lines: [...auth, ...type, 'Content-Length', '4097'] }, KEYED, 'unsupported_media_type'],
      [{ url: '/q', lines: ['Origin', 'null'] }, KEYED, 'origin_not_allowed'],
      [{ lines: ['Host', 'b', 'Origin', 'null'] }, KEYED, 'invalid_request'],
      [{ url: '/q', method: 'OPTIONS', lines: ['Origin', ORIGIN] }, KEYED, 'preflight'],
      [{ lines: ['Content-Length', '4097'] }, PUBLIC, 'payload_too_large'],
      [{ body: ' '.repeat(4097) }, PUBLIC, 'payload_too_large'],
      [{ lines: [...auth, 'X-Client-IP', 'x'] }, KEYED, 'invalid_request'],
      [{ lines: [...auth, 'X-Client-IP', 'x', ...WAITING], body: null }, KEYED, 'invalid_request'],
      [{ lines: ['Idempotency-Key', '!', ...WAITING], body: null }, PUBLIC, 'invalid_request'],
    ];
    for (const [given, access, code] of rows) {
      const exchange = open(given);
      const response = await respondTo(exchange, access);
      assert.is(response?.code, code, JSON.stringify(given));
      assert.equal(response?.headers.slice(-2) ?? [],
        exchange.route === ROUTE ? routeHeaders(exchange, access)
          : response?.headers.slice(-2) ?? [], code);
    }
    assert.equal(inputs, []);
  });

test('an exchange without room gets 503 and closes, whatever its request', async () => {
  for (const given of [{}, { url: '/q' }, { lines: ['Host', 'b'] }]) {
    const exchange = open(given);
    exchange.isShed = true;
    const response = await respondTo(exchange, PUBLIC);
    assert.equal([response?.code, response?.close, response?.headers.slice(0, 2)],
      ['unavailable', true, ['Retry-After', '1']]);
  }
});

test('an error in the body is the response, found before or while the body is read', async () => {
  const before = open({ body: null, lines: ['Content-Length', '2'] });
  before.bodyError = 'request_timeout';
  const during = open({ body: null, lines: ['Content-Length', '2'] });
  const responded = respondTo(during, PUBLIC);
  await Promise.resolve().then(() => {});
  assert.ok(during.reading);
  during.reading.fail('invalid_request');
  for (const [response, code] of [
    [await respondTo(before, PUBLIC), 'request_timeout'], [await responded, 'invalid_request'],
  ] as const) {
    assert.equal([response?.code, response?.close], [code, true]);
  }
});

test('a client that has disconnected gets no response, and nothing runs', async () => {
  inputs.length = 0;
  const lines = ['Authorization', `Bearer ${KEY.key}`, 'X-Client-IP', '1.1.1.1'];
  for (const access of [PUBLIC, KEYED]) {
    assert.is(await respondTo(open({ lines, remoteAddress: null }), access), null);
    const partial = open({ body: null, lines: [...lines, 'Content-Length', '2'] });
    const responded = respondTo(partial, access);
    partial.req.destroy();
    assert.is(await responded, null);
  }
  assert.equal(inputs, []);
});

test('the headers of a route depend on whether a client IP is counted', () => {
  assert.equal(routeHeaders(open(), PUBLIC), ['Counted', 'true']);
  assert.equal(routeHeaders(open(), KEYED), ['Counted', 'false']);
  for (const [named, isCounted] of [['::1', 'true'], ['x', 'false']] as const) {
    const headers = routeHeaders(open({ lines: ['X-Client-IP', named] }), KEYED);
    assert.equal(headers, ['Counted', isCounted]);
  }
  assert.equal(routeHeaders(open({ url: '/q' }), PUBLIC), []);
});

test('a connection is unusable when the rest of the request is unbounded or unknown', () => {
  const rows: [Given, boolean][] = [
    [{}, false],
    [{ body: null, lines: ['Content-Length', '4096'] }, false],
    [{ body: null, lines: ['Content-Length', '4097'] }, true],
    [{ body: null, lines: ['Transfer-Encoding', 'chunked'] }, true],
    [{ lines: ['Transfer-Encoding', 'chunked'] }, false],
    [{ body: null, lines: ['Content-Length', '2', 'Expect', '100-continue'] }, true],
    [{ lines: ['Upgrade', 'websocket'] }, true],
    [{ lines: ['Upgrade', 'websocket', 'Content-Length', '2'] }, true],
  ];
  for (const [given, expected] of rows) {
    assert.is(mustCloseConnection(open(given)), expected, JSON.stringify(given));
  }
  const continued = open({
    body: null, lines: ['Content-Length', '2', 'Expect', '100-continue'],
  });
  continued.hasSentContinue = true;
  assert.is(mustCloseConnection(continued), false);
});

test.run();
