/** The responses to malformed requests, unusual targets and other methods. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startServer, stopServers } from './fake-service.ts';
import { exchange, openClient, post } from './raw-client.ts';

const BODY = '{"user_id":"u","purpose":"p"}';
const LENGTH = `Content-Length: ${BODY.length}`;
const COMMON = 'Content-Type: application/json\r\nIdempotency-Key: k\r\n';
const INVALID = '{"error":"invalid_request"}';

/** Builds a request from header lines that include their line ends. */
function raw(lines: string, rest = BODY, first = 'POST /otp/request HTTP/1.1'): string {
  return `${first}\r\n${lines}${COMMON}\r\n${rest}`;
}

test('an error in framing, host or version gets 400 and ends the connection', async () => {
  const { port, requests } = await startServer();
  const chunked = 'Transfer-Encoding: chunked\r\n';
  const chunks = `${BODY.length.toString(16)}\r\n${BODY}\r\n0\r\n\r\n`;
  const host = 'Host: a\r\n';
  const length = `${LENGTH}\r\n`;
  const rows: [string, string][] = [
    ['CL and TE', raw(host + length + chunked, chunks)],
    ['TE and CL', raw(host + chunked + length, chunks)],
    ['two lengths, differing', raw(`${host}${length}Content-Length: 3\r\n`)],
    ['two lengths, equal', raw(host + length + length)],
    ['list of lengths', raw(`${host}Content-Length: ${BODY.length}, ${BODY.length}\r\n`)],
    ['signed length', raw(`${host}Content-Length: +${BODY.length}\r\n`)],
    ['negative length', raw(`${host}Content-Length: -1\r\n`)],
    ['hexadecimal length', raw(`${host}Content-Length: 0x1d\r\n`)],
    ['length beyond 64 bits', raw(`${host}Content-Length: ${'9'.repeat(30)}\r\n`)],
    ['coding before chunked', raw(`${host}Transfer-Encoding: gzip, chunked\r\n`, chunks)],
    ['coding on a line of its own',
      raw(`${host}Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n`, chunks)],
    ['chunked twice', raw(`${host}Transfer-Encoding: chunked, chunked\r\n`, chunks)],
    ['chunked not last', raw(`${host}Transfer-Encoding: chunked, gzip\r\n`, chunks)],
    ['other coding', raw(`${host}Transfer-Encoding: identity\r\n`, chunks)],
    ['TE on HTTP/1.0', raw(host + chunked, chunks, 'POST /otp/request HTTP/1.0')],
    ['obs-fold', raw(`${host}X-A: b\r\n c\r\n${length}`)],
    ['bare CR in a value', raw(`${host}X-A: b\rc\r\n${length}`)],
    ['bare LF as line end', raw(`Host: a\nX-A: b\n${length}`)],
    ['space before the colon', raw(`${host}Content-Length : ${BODY.length}\r\n`)],
    ['NUL in a value', raw(`${host}X-A: b\0c\r\n${length}`)],
    ['space in a name', raw(`${host}X A: b\r\n${length}`)],
    ['empty name', raw(`${host}: b\r\n${length}`)],
    ['no host', raw(length)],
    ['two hosts', raw(`${host}Host: b\r\n${length}`)],
    ['two equal hosts', raw(host + host + length)],
    ['two hosts on 1.0', raw(host + host + length, BODY, 'POST /otp/request HTTP/1.0')],
    ['empty host', raw(`Host:\r\n${length}`)],
    ['host with a path', raw(`Host: a/b\r\n${length}`)],
    ['host with user', raw(`Host: u@a\r\n${length}`)],
    ['host with a space', raw(`Host: a b\r\n${length}`)],
    ['host list', raw(`Host: a, b\r\n${length}`)],
    ['host with a bad port', raw(`Host: a:8x\r\n${length}`)],
    ['HTTP/2.0', raw(host + length, BODY, 'POST /otp/request HTTP/2.0')],
    ['HTTP/0.9', raw(host + length, BODY, 'POST /otp/request HTTP/0.9')],
    ['HTTP/1.2', raw(host + length, BODY, 'POST /otp/request HTTP/1.2')],
    ['no version', 'POST /otp/request\r\n\r\n'],
    ['unknown method', raw(host + length, BODY, 'BREW /otp/request HTTP/1.1')],
    ['lower-case method', raw(host + length, BODY, 'post /otp/request HTTP/1.1')],
    ['relative target', raw(host + length, BODY, 'POST otp/request HTTP/1.1')],
    ['other scheme', raw(host + length, BODY, 'POST ftp://a/otp/request HTTP/1.1')],
    ['empty authority', raw(host + length, BODY, 'POST http:///otp/request HTTP/1.1')],
    ['TLS hello', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 garbage garbage'],
    ['bad chunk size', raw(host + chunked, `zz\r\n${BODY}\r\n0\r\n\r\n`)],
    ['chunk longer than it says', raw(host + chunked, `1\r\n${BODY}\r\n0\r\n\r\n`)],
    ['bare LF after a chunk', raw(host + chunked, `1d\r\n${BODY}\n0\r\n\r\n`)],
  ];
  for (const [name, bytes] of rows) {
    const client = await openClient(port);
    client.send(Buffer.from(bytes, 'latin1'));
    const got = await client.readResponse();
    assert.is(`${got.status} ${got.body}`, `400 ${INVALID}`, name);
    assert.is(got.headers.get('connection'), 'close', name);
    assert.is(got.headers.get('cache-control'), 'no-store', name);
    assert.ok(got.headers.get('date'), name);
    assert.is(await client.ended(), '', name);
    client.destroy();
  }
  assert.is(requests.length, 0);
});

test('the HTTP/2 preface opens no tunnel and leaves the server running', async () => {
  const { port } = await startServer();
  const client = await openClient(port);
  client.send('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  await client.ended();
  client.destroy();
  assert.is((await exchange(port, post('/otp/request', BODY))).status, 201);
});

test('every valid form of a request is served', async () => {
  const { port } = await startServer();
  const rest = `Host: a\r\n${LENGTH}\r\n`;
  const chunked = 'Host: a\r\nTransfer-Encoding: Chunked\r\n';
  const rows: [string, string][] = [
    ['absolute-form', raw(rest, BODY, 'POST http://a:80/otp/request HTTP/1.1')],
    ['absolute-form, other case', raw(rest, BODY, 'POST HTTPS://A/otp/request?x HTTP/1.1')],
    ['query', raw(rest, BODY, 'POST /otp/request?code=123456&user_id=x HTTP/1.1')],
    ['IPv6 host', raw(`Host: [::1]:3000\r\n${LENGTH}\r\n`)],
    ['host without port', raw(`Host: a:\r\n${LENGTH}\r\n`)],
    ['1.0 without host', raw(`${LENGTH}\r\n`, BODY, 'POST /otp/request HTTP/1.0')],
    ['empty line before', `\r\n${raw(rest)}`],
    ['chunked', raw(chunked, '5\r\n{"use\r\n18;x=y\r\nr_id":"u","purpose":"p"}\r\n0\r\n\r\n')],
    ['trailers', raw(chunked, `1d\r\n${BODY}\r\n0\r\nX-T: 1\r\n\r\n`)],
  ];
  for (const [name, bytes] of rows) {
    assert.is((await exchange(port, bytes)).status, 201, name);
  }
});

test('another spelling of a path is another path', async () => {
  const { port, requests, verifications } = await startServer();
  const targets = ['/', '/otp', '/otp/', '/otp/request/', '/OTP/request', '/otp/Request',
    '/otp/%72equest', '/otp%2Frequest', '//otp/request', '//evil/otp/request', '/otp//request',
    '/./otp/request', '/x/../otp/request', '/otp/request;a=b', '/\\', '//', '/otp\\request',
    '/otp/request.', '*', 'http://a', 'http://a?/otp/request', 'http://a//otp/request'];
  for (const target of targets) {
    const got = await exchange(port, post(target, BODY));
    assert.is(`${got.status} ${got.body}`, '404 {"error":"not_found","message":"the paths are'
      + ' /otp/request, /otp/verify, /openapi.json and /otp/ with the 32 lower-case hexadecimal'
      + ' digits of an otp_id"}', target);
  }
  assert.is(requests.length + verifications.length, 0);
});

test('another method gets 405 with Allow, and the connection stays open', async () => {
  const { port } = await startServer();
  for (const path of ['/otp/request', '/otp/verify']) {
    for (const method of ['GET', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND']) {
      const client = await openClient(port);
      client.send(`${method} ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
      const got = await client.readResponse();
      assert.is(`${got.status} ${got.body}`,
        '405 {"error":"method_not_allowed","message":"use POST"}', method);
      assert.is(got.headers.get('allow'), 'POST');
      assert.is(got.headers.has('ratelimit-policy'), path === '/otp/request');
      assert.not.match(got.head, /access-control/i);
      client.send(post('/otp/request', BODY));
      assert.is((await client.readResponse()).status, 201);
      client.destroy();
    }
  }
});

test('HEAD gets the headers of a 405 and no body', async () => {
  const { port } = await startServer();
  const client = await openClient(port);
  client.send('HEAD /otp/verify HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
  const got = await client.readResponse({ noBody: true });
  assert.is(got.status, 405);
  assert.is(got.headers.get('allow'), 'POST');
  assert.is(await client.ended(), '');
});

test('CONNECT gets 405 after the responses before it, and the connection closes', async () => {
  const { port, requests } = await startServer();
  const client = await openClient(port);
  const tunnelled = post('/otp/request', BODY);
  client.send(`${tunnelled}CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n${tunnelled}`);
  assert.is((await client.readResponse()).status, 201);
  const got = await client.readResponse();
  assert.is(`${got.status} ${got.headers.get('allow')}`, '405 POST');
  assert.is(got.headers.get('connection'), 'close');
  assert.is(await client.ended(), '');
  assert.is(requests.length, 1);
});

test('a reset after CONNECT, while the connection closes, leaves the server running', async () => {
  const { port } = await startServer();
  for (let round = 0; round < 5; round += 1) {
    const client = await openClient(port);
    client.send('CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n');
    assert.is((await client.readResponse()).status, 405);
    client.reset();
    assert.is((await exchange(port, post('/otp/request', BODY))).status, 201);
  }
});

test('a request with Upgrade is answered and ends its connection, whatever follows', async () => {
  const { port, requests } = await startServer();
  const offer = { Upgrade: 'h2c', Connection: 'Upgrade, HTTP2-Settings', 'HTTP2-Settings': 'AA' };
  const chunks = { ...offer, 'Content-Length': null, 'Transfer-Encoding': 'chunked' };
  const chunked = `${post('/otp/request', '', chunks)}1d\r\n${BODY}\r\n0\r\n\r\n`;
  const next = post('/otp/verify', BODY);
  const rows = [post('/otp/request', BODY, offer), chunked, post('/otp/request', BODY, {
    ...offer, Connection: 'keep-alive, upgrade',
  })];
  for (const bytes of rows) {
    const whole = bytes + next;
    // The next request is in the same piece, begins in it, or follows later.
    for (const cut of [whole.length, bytes.length - 5, bytes.length, bytes.length + 1]) {
      const client = await openClient(port);
      client.send(whole.slice(0, cut));
      if (cut < whole.length) {
        await exchange(port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n');
        client.send(whole.slice(cut));
      }
      const got = await client.readResponse();
      assert.is(`${got.status} ${got.headers.get('connection')}`, '201 close', `${cut} ${bytes}`);
      assert.is(await client.ended(), '');
      client.destroy();
    }
  }
  assert.is(requests.length, 3 * 4);
  const other = await openClient(port);
  other.send('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'
    + post('/otp/request', BODY));
  const got = await other.readResponse();
  assert.is(`${got.status} ${got.headers.get('connection')}`, '404 close');
  assert.is(await other.ended(), '');
});

test.after(stopServers);
test.run();
