/** Requests from browsers: origins, preflights, and the names of the admin listener. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseAllowedHosts, parseAllowedOrigins } from '../../src/http/input/browsers.ts';
import { KNOWN_BODY, OTP_ID, startServer, stopServers } from './fake-service.ts';
import { exchange, openClient, post } from './raw-client.ts';
import type { RawResponse } from './raw-client.ts';

const BODY = '{"user_id":"u","purpose":"p"}';
const APP = 'https://app.example.com';
const PATHS = ['/otp/request', '/otp/verify', `/otp/${OTP_ID}`, '/none', '/', '*'];
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE'];
const REFUSED = '{"error":"origin_not_allowed","message":"call otpd from a server, or list the'
  + ' Origin of the page in ALLOWED_ORIGINS"}';

function ask(method: string, path: string, lines: string, host = 'a'): string {
  return `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\n${lines}\r\n`;
}

function corsOf({ headers }: RawResponse): unknown[] {
  return ['access-control-allow-origin', 'vary', 'access-control-expose-headers',
    'access-control-allow-credentials'].map((name) => headers.get(name));
}

const ALLOWED = [APP, 'Origin', 'Retry-After, RateLimit, RateLimit-Policy, Idempotent-Replayed,'
  + ' X-Request-Id, Otp-Device', undefined];
const NONE = [undefined, undefined, undefined, undefined];

test('an origin that is not allowed gets 403 on every path and method, and runs nothing',
  async () => {
    const lines = ['http://evil.example', 'null', '', `${APP}:443`, `${APP}/`, APP.toUpperCase(),
      `${APP}, ${APP}`, `${APP}\r\nOrigin: ${APP}`, `${APP}\r\nOrigin: null`, 'https://x'];
    for (const origins of [[], [APP, 'https://b.example']]) {
      const { port, requests, verifications, calls } = await startServer({ origins });
      for (const origin of lines) {
        for (const method of METHODS) {
          const got = await exchange(port, ask(method, '/otp/request', `Origin: ${origin}\r\n`),
            { noBody: method === 'HEAD' });
          assert.is(got.status, 403, `${method} ${origin}`);
          if (method !== 'HEAD') assert.is(got.body, REFUSED);
          assert.equal(corsOf(got), NONE);
        }
        const good = post('/otp/request', BODY, { Origin: origin });
        assert.is((await exchange(port, good)).body, REFUSED, origin);
      }
      for (const path of PATHS) {
        const got = await exchange(port, ask('GET', path, 'Origin: http://evil.example\r\n'));
        assert.is(got.body, REFUSED, path);
      }
      assert.equal([requests, verifications, calls], [[], [], []]);
    }
  });

test('the origin is looked at behind the framing and before everything else', async () => {
  const { port } = await startServer({ origins: [APP] });
  const evil = 'Origin: http://evil\r\n';
  const rows: [string, number][] = [
    [ask('GET', '/otp/request', `${evil}Host: b\r\n`), 400],
    [ask('GET', 'nothing', evil), 400],
    [ask('GET', '/', `${evil}${'a:\r\n'.repeat(100)}`), 431],
    [ask('POST', '/', `${evil}Content-Length: 5000\r\nExpect: x\r\n`), 403],
  ];
  for (const [bytes, status] of rows) {
    assert.is((await exchange(port, bytes)).status, status, bytes);
  }
});

test('a preflight from an allowed origin is 204 without an API key, on every path', async () => {
  const { port } = await startServer({ origins: [APP], apiKeys: `a:verify:${'0'.repeat(64)}` });
  const lines = `Origin: ${APP}\r\nAccess-Control-Request-Method: POST\r\n`;
  for (const path of PATHS) {
    const got = await exchange(port, ask('OPTIONS', path, lines));
    assert.is(`${got.status} ${got.body}`, '204 ', path);
    assert.equal(corsOf(got), ALLOWED);
    assert.is(got.headers.get('access-control-allow-methods'), 'GET, HEAD, POST, DELETE');
    assert.is(got.headers.get('access-control-allow-headers'),
      'Content-Type, Idempotency-Key, Authorization, Otp-Device');
    assert.is(got.headers.get('access-control-max-age'), '600');
    assert.is(got.headers.get('content-length'), undefined);
  }
  const client = await openClient(port);
  client.send(ask('OPTIONS', '/otp/request', `${lines}Content-Length: 2\r\n`) + '{}'
    + ask('OPTIONS', '/otp/request', lines));
  for (let at = 0; at < 2; at += 1) assert.is((await client.readResponse()).status, 204);
  client.destroy();
  assert.is((await exchange(port, ask('OPTIONS', '/otp/request', ''))).status, 405);
});

test('every answer to an allowed origin names it, whatever it says', async () => {
  const { port } = await startServer({
    origins: [APP], verify: () => Promise.reject(new Error('fails')),
  });
  const origin = { Origin: APP };
  const line = `Origin: ${APP}\r\n`;
  const verify = '{"user_id":"u","purpose":"p","code":"123456"}';
  const chunked = { ...origin, 'Content-Length': null, 'Transfer-Encoding': 'chunked' };
  const rows: [string, number][] = [
    [post('/otp/request', BODY, origin), 201], [post('/otp/request', '{', origin), 400],
    [post('/otp/request', BODY, { ...origin, 'Idempotency-Key': null }), 400],
    [post('/otp/request', '', { ...origin, 'Content-Length': '5000' }), 413],
    [`${post('/otp/request', '', chunked)}zz\r\n`, 400],
    [post('/otp/request', BODY, { ...origin, 'Content-Type': null }), 415],
    [post('/otp/request', BODY, { ...origin, Expect: 'x' }), 417],
    [post('/otp/verify', verify, origin), 500],
    [ask('GET', '/none', line), 404], [ask('PUT', '/otp/verify', line), 405],
    [ask('GET', '/', `${line}Host: b\r\n`), 400],
    [ask('CONNECT', 'a:1', line), 405],
  ];
  for (const [bytes, status] of rows) {
    const got = await exchange(port, bytes);
    assert.is(got.status, status, bytes);
    assert.equal(corsOf(got), ALLOWED, bytes);
  }
  const got = await exchange(port, ask('GET', `/otp/${OTP_ID}`, line));
  assert.is(got.body, KNOWN_BODY);
  assert.equal(corsOf(got), ALLOWED);
  assert.equal(corsOf(await exchange(port, post('/otp/request', BODY))), NONE);
  assert.equal(corsOf(await exchange(port, 'GARBAGE\r\n\r\n')), NONE);
  const tunnel = await exchange(port, ask('CONNECT', 'a:1', 'Origin: http://evil\r\n'));
  assert.is(`${tunnel.status} ${tunnel.headers.get('connection')}`, '403 close');
});

test('a listener with names answers to these, to localhost and to IP addresses only', async () => {
  const { port, calls } = await startServer({ hosts: new Set(['otpd.internal']) });
  const path = `/otp/${OTP_ID}`;
  const good = ['127.0.0.1', '127.0.0.1:9464', '10.1.2.3.', '[::1]', '[2001:db8::1]:80',
    '[::ffff:10.0.0.1]', 'localhost', 'LOCALHOST:1', 'localhost.', 'otpd.internal:9464',
    'OTPD.Internal.', 'localhost:'];
  for (const host of good) {
    assert.is((await exchange(port, ask('GET', path, '', host))).status, 200, host);
    assert.is((await exchange(port, ask('GET', `http://${host}${path}`, '', 'evil'))).status, 200);
  }
  const bad = ['evil.example', 'evil.example:45000', 'otpd', 'x.otpd.internal', 'localhost.evil',
    'a.localhost', '127.1', '0x7f.0.0.1', '2130706433', '127.0.0.1.evil.example', 'localhost..',
    '%6cocalhost', '[1.2.3.4]', '[::1::]', '1.2.3.4.5', '256.0.0.1'];
  calls.length = 0;
  for (const host of bad) {
    for (const bytes of [ask('GET', path, '', host), ask('GET', `http://${host}${path}`, '', '::'),
      ask('GET', `http://${host}${path}`, '', 'localhost'), ask('OPTIONS', '/', '', host),
      ask('POST', '/none', 'Origin: http://evil\r\n', host)]) {
      const got = await exchange(port, bytes);
      if (bytes.includes('Host: ::')) assert.is(got.status, 400, bytes);
      else {
        assert.is(`${got.status} ${got.body}`, '421 {"error":"misdirected_request","message":"the'
          + ' host must be an IP address, localhost or a name in ADMIN_ALLOWED_HOSTS"}', bytes);
      }
    }
  }
  for (const host of ['u@localhost', 'localhost:8x', '[::1', 'localhost:999999', 'a b']) {
    assert.is((await exchange(port, ask('GET', path, '', host))).status, 400, host);
  }
  const old = `GET ${path} HTTP/1.0\r\n\r\n`;
  assert.is((await exchange(port, old)).status, 421);
  assert.is((await exchange(port, ask('GET', path, 'Origin: http://localhost\r\n', 'localhost')))
    .status, 403);
  assert.equal(calls, []);
});

test('ALLOWED_ORIGINS takes origins as browsers write them', () => {
  const good = ['https://a.example', 'http://localhost:3000', 'http://[::1]:8080',
    'https://xn--bcher-kva.example', 'capacitor://localhost', 'chrome-extension://abcdef'];
  const { origins, errors } = parseAllowedOrigins(`${good.join(', ')}\n`);
  assert.equal([[...origins], errors], [good, []]);
  const bad = ['null', '*', 'https://*.example', 'a.example', 'https://', 'https://a.example/',
    'https://a.example/x', 'https://A.example', 'https://a.example:443', 'https://u@a.example',
    'https://a.example?x', 'HTTPS://a.example', 'https://bücher.example', 'https://a.example#',
    'http://127.1', 'capacitor://a/b'];
  for (const entry of bad) {
    const parsed = parseAllowedOrigins(entry);
    assert.equal([parsed.origins.size, parsed.errors.length], [0, 1], entry);
  }
  assert.equal(parseAllowedOrigins('https://A.example:443/').errors,
    ['"https://A.example:443/" is not an origin; write https://a.example']);
  assert.equal(parseAllowedOrigins('*').errors,
    ['"*" is not an origin such as https://app.example.com']);
});

test('ADMIN_ALLOWED_HOSTS takes names without a port', () => {
  const { hosts, errors } = parseAllowedHosts('otpd, OTPD.Internal. my_host-1.a');
  assert.equal([[...hosts], errors], [['otpd', 'otpd.internal', 'my_host-1.a'], []]);
  for (const entry of ['otpd:9464', '*', '*.a', 'http://a', 'a..b', '.', 'bücher']) {
    assert.equal([parseAllowedHosts(entry).hosts.size, parseAllowedHosts(entry).errors.length],
      [0, 1], entry);
  }
});

test.after(stopServers);
test.run();
