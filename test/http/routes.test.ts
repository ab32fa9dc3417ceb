/** The routes of one OTP: their paths, their methods, and unexpected bodies. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import fc from 'fast-check';
import { pathOf } from '../../src/http/input/request-head.ts';
import { KNOWN_BODY, OTP_ID, startServer, stopServers } from './fake-service.ts';
import { exchange, openClient, post } from './raw-client.ts';
import type { RawResponse, RawClient } from './raw-client.ts';

const PATH = `/otp/${OTP_ID}`;
const REQUEST = post('/otp/request', '{"user_id":"u","purpose":"p"}');
const CHUNKED = 'Transfer-Encoding: chunked\r\n';

/** A request for one OTP; `lines` are header lines with their line ends, `rest` is the body. */
function ask(method: string, lines = '', rest = '', path = PATH): string {
  return `${method} ${path} HTTP/1.1\r\nHost: a\r\n${lines}\r\n${rest}`;
}

function withLength(method: string, body: string): string {
  return ask(method, `Content-Length: ${body.length}\r\n`, body);
}

function withChunks(method: string, body: string, size: number): string {
  const chunks = [];
  for (let at = 0; at < body.length; at += size) {
    const chunk = body.slice(at, at + size);
    chunks.push(`${chunk.length.toString(16)}\r\n${chunk}\r\n`);
  }
  return ask(method, CHUNKED, `${chunks.join('')}0\r\n\r\n`);
}

/** Reads the next response, which has no body after HEAD. */
function responseTo(client: RawClient, method: string): Promise<RawResponse> {
  return client.readResponse({ noBody: method === 'HEAD' });
}

function described({ status, body, headers }: RawResponse): string {
  return `${status} ${body} ${headers.get('connection')}`;
}

/** The response to a request for one OTP on a connection that stays open. */
const GOOD: Readonly<Record<string, string>> = {
  GET: `200 ${KNOWN_BODY} keep-alive`,
  HEAD: '200  keep-alive',
  DELETE: '204  keep-alive',
};

test('a path with an id that is not 32 lower-case hexadecimal digits is not found', async () => {
  const { port, calls } = await startServer();
  const paths = [PATH.toUpperCase(), `/otp/${OTP_ID.toUpperCase()}`, PATH.slice(0, -1), `${PATH}0`,
    `${PATH.slice(0, -1)}g`, `${PATH}/`, `${PATH}.`, `${PATH};a=b`, `/otp//${OTP_ID}`,
    `/otp/%30${OTP_ID.slice(1)}`, `/otp/./${OTP_ID}`, `//otp/${OTP_ID}`, `/otp/x/${OTP_ID}`,
    `/x/../otp/${OTP_ID}`, `/${OTP_ID}`, `/otp/request/${OTP_ID}`, `/otp/${OTP_ID}%0a`];
  for (const path of paths) {
    for (const method of ['GET', 'DELETE', 'POST']) {
      const got = await exchange(port, ask(method, '', '', path));
      assert.match(`${got.status} ${got.body}`, /^404 {"error":"not_found","message":"the paths /,
        path);
    }
  }
  assert.equal(calls, []);
  for (const path of [`${PATH}?code=1`, `http://a${PATH}`, `https://a:1${PATH}?x`]) {
    assert.is(described(await exchange(port, ask('GET', '', '', path))), GOOD.GET, path);
  }
  assert.equal(calls, new Array(3).fill(`status ${OTP_ID}`));
});

test('another method gets 405 with Allow, and the connection stays open', async () => {
  const { port, calls } = await startServer();
  for (const method of ['POST', 'PUT', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND']) {
    const client = await openClient(port);
    client.send(withLength(method, '{}') + ask('GET'));
    const got = await client.readResponse();
    assert.is(described(got), '405 {"error":"method_not_allowed",'
      + '"message":"use GET, HEAD or DELETE"} keep-alive', method);
    assert.is(got.headers.get('allow'), 'GET, HEAD, DELETE');
    assert.not.ok(got.headers.has('ratelimit-policy'));
    assert.is(described(await client.readResponse()), GOOD.GET);
    client.destroy();
  }
  assert.equal(calls, new Array(6).fill(`status ${OTP_ID}`));
});

test('a request without a body needs no content type and no key, and ignores both', async () => {
  const { port } = await startServer();
  const rows = ['', 'Content-Type: text/plain\r\n', 'Content-Encoding: gzip\r\n',
    'Accept: text/html\r\n', 'Idempotency-Key: \r\n',
    'Idempotency-Key: a\r\nIdempotency-Key: b\r\n'];
  for (const lines of rows) {
    for (const method of ['GET', 'HEAD', 'DELETE']) {
      const options = { noBody: method === 'HEAD' };
      const got = await exchange(port, ask(method, lines), options);
      assert.is(described(got), GOOD[method], `${method} ${lines}`);
    }
  }
});

test('a body of at most 4096 bytes is ignored, and the next request follows it',
  async () => {
    const { port, calls, requests } = await startServer();
    // Taken for requests, these bytes would be answered and counted.
    const bait = ask('DELETE') + REQUEST;
    const full = bait + ' '.repeat(4096 - bait.length);
    for (const method of ['GET', 'HEAD', 'DELETE']) {
      const client = await openClient(port);
      const forms = [withLength(method, ''), withLength(method, bait), withLength(method, full),
        withChunks(method, bait, 4096), withChunks(method, bait, 1), withChunks(method, full, 999),
        ask(method, CHUNKED, '0\r\n\r\n'),
        ask(method, CHUNKED, `3;x=y\r\nGET\r\n0\r\nX-Trailer: ${bait.length}\r\n\r\n`)];
      calls.length = 0;
      client.send(forms.map((bytes) => bytes + ask('GET')).join(''));
      for (const bytes of forms) {
        assert.is(described(await responseTo(client, method)), GOOD[method], bytes);
        assert.is(described(await client.readResponse()), GOOD.GET, bytes);
      }
      client.send(REQUEST);
      assert.is((await client.readResponse()).status, 201);
      const first = `${method === 'DELETE' ? 'cancel' : 'status'} ${OTP_ID}`;
      assert.equal(calls, forms.flatMap(() => [first, `status ${OTP_ID}`]));
      client.destroy();
    }
    assert.is(requests.length, 3);
  });

test('a body cut into pieces at any place is ignored, too', async () => {
  const { port, calls } = await startServer();
  const bait = ask('DELETE');
  for (const bytes of [withLength('GET', bait), withChunks('GET', bait, 50)]) {
    const client = await openClient(port);
    const head = bytes.indexOf('\r\n\r\n') + 4;
    for (const cut of [head - 2, head, head + 1, head + 20, bytes.length - 1]) {
      client.send(bytes.slice(0, cut));
      // The server has read the piece before it responds on another connection.
      await exchange(port, post('/otp/none', ''));
      client.send(bytes.slice(cut) + ask('HEAD') + REQUEST);
      assert.is(described(await client.readResponse()), GOOD.GET, String(cut));
      assert.is(described(await responseTo(client, 'HEAD')), GOOD.HEAD, String(cut));
      assert.is((await client.readResponse()).status, 201, String(cut));
    }
    client.destroy();
  }
  assert.equal(new Set(calls), new Set([`status ${OTP_ID}`]));
});

test('a body of more than 4096 bytes gets 413 and causes no operation', async () => {
  const { port, calls } = await startServer();
  const body = ' '.repeat(4097);
  for (const method of ['GET', 'HEAD', 'DELETE']) {
    const forms = [withLength(method, body), withChunks(method, body, 1000),
      withChunks(method, body, 1), ask(method, 'Content-Length: 99999999\r\n')];
    for (const bytes of forms) {
      const client = await openClient(port);
      client.send(bytes + ask('DELETE'));
      const got = await responseTo(client, method);
      assert.is(`${got.status} ${got.headers.get('connection')}`, '413 close', bytes);
      assert.is(got.headers.get('content-length'), '29');
      assert.is(await client.ended(), '');
      client.destroy();
    }
  }
  assert.equal(calls, []);
});

test('a framing error gets 400, and the requests behind it are dropped', async () => {
  const { port, calls } = await startServer();
  const length = 'Content-Length: 5\r\n';
  const rows: [string, string][] = [
    [length + CHUNKED, '0\r\n\r\n'], [CHUNKED + length, '0\r\n\r\n'],
    [`${length}Content-Length: 6\r\n`, '12345'], [length + length, '12345'],
    ['Content-Length: +5\r\n', '12345'], ['Content-Length : 5\r\n', '12345'],
    ['Transfer-Encoding: gzip, chunked\r\n', '0\r\n\r\n'],
    ['Transfer-Encoding: identity\r\n', ''], ['Transfer-Encoding: chunked, x\r\n', ''],
    [CHUNKED, 'zz\r\n'], [CHUNKED, '1\r\nabc\r\n0\r\n\r\n'], ['Host: b\r\n', ''],
  ];
  for (const [lines, rest] of rows) {
    for (const method of ['GET', 'DELETE']) {
      const client = await openClient(port);
      client.send(ask(method, lines, rest) + ask('DELETE'));
      const got = await client.readResponse();
      assert.is(described(got), '400 {"error":"invalid_request"} close', `${method} ${lines}`);
      assert.is(await client.ended(), '');
      client.destroy();
    }
  }
  assert.equal(calls, []);
});

test('a request with 100-continue is answered at once, without its body', async () => {
  const { port, calls } = await startServer();
  const expect = 'Expect: 100-continue\r\n';
  for (const method of ['GET', 'HEAD', 'DELETE']) {
    for (const lines of ['Content-Length: 5\r\n', CHUNKED]) {
      const client = await openClient(port);
      const before = calls.length;
      client.send(ask(method, expect + lines));
      const closing = (GOOD[method] as string).replace('keep-alive', 'close');
      assert.is(described(await responseTo(client, method)), closing);
      assert.is(await client.ended(), '');
      assert.is(calls.length, before + 1);
      client.destroy();
    }
    const got = await exchange(port, ask(method, expect), { noBody: method === 'HEAD' });
    assert.is(described(got), (GOOD[method] as string).replace('keep-alive', 'close'));
    const other = await exchange(port, ask(method, 'Expect: 200-ok\r\n'),
      { noBody: method === 'HEAD' });
    assert.is(`${other.status} ${other.headers.get('connection')}`, '417 keep-alive');
  }
  const long = await exchange(port, ask('GET', `${expect}Content-Length: 4097\r\n`));
  assert.is(described(long), '413 {"error":"payload_too_large"} close');
});

test('pipelined HEAD, GET and DELETE requests get their own responses in order', async () => {
  const { port, calls } = await startServer();
  const client = await openClient(port);
  const order = ['HEAD', 'GET', 'HEAD', 'HEAD', 'DELETE', 'HEAD', 'DELETE', 'DELETE', 'GET',
    'HEAD'];
  for (let round = 0; round < 20; round += 1) {
    client.send(order.map((method) => ask(method)).join('') + REQUEST);
    for (const method of order) {
      const got = await responseTo(client, method);
      assert.is(described(got), GOOD[method]);
      assert.is(got.headers.has('content-length'), method !== 'DELETE');
      if (method === 'HEAD') {
        assert.is(got.headers.get('content-length'), String(KNOWN_BODY.length));
      }
    }
    assert.is((await client.readResponse()).status, 201);
  }
  assert.is(calls.length, 20 * order.length);
  client.destroy();
});

test('a HEAD request that fails gets the headers of GET and no body', async () => {
  const { port } = await startServer({ status: async () => ({ kind: 'unknown' }) });
  const client = await openClient(port);
  client.send(ask('HEAD') + ask('HEAD', '', '', '/otp/none') + ask('GET'));
  const unknown = await responseTo(client, 'HEAD');
  assert.is(`${unknown.status} ${unknown.headers.get('content-length')}`, '404 25');
  const none = await responseTo(client, 'HEAD');
  assert.is(`${none.status} ${none.headers.get('content-length')}`, '404 153');
  assert.is((await client.readResponse()).body, '{"error":"otp_not_found"}');
  client.destroy();
});

test('HTTP/1.0, Connection: close and Upgrade end the connection after the response', async () => {
  const { port, calls } = await startServer();
  for (const method of ['GET', 'HEAD', 'DELETE']) {
    const rows = [ask(method).replace('HTTP/1.1', 'HTTP/1.0'), ask(method, 'Connection: close\r\n'),
      ask(method, 'Connection: Upgrade\r\nUpgrade: websocket\r\n')];
    for (const bytes of rows) {
      const client = await openClient(port);
      const before = calls.length;
      client.send(bytes + ask('DELETE'));
      const got = await responseTo(client, method);
      assert.is(described(got), (GOOD[method] as string).replace('keep-alive', 'close'), bytes);
      assert.is(await client.ended(), '');
      assert.is(calls.length, before + 1);
      client.destroy();
    }
  }
});

test('property: only a target that equals a route byte for byte matches it', () => {
  fc.assert(fc.property(fc.string(), (text) => {
    const path = pathOf(`/otp/request${text}`);
    assert.is(path === '/otp/request', text === '' || text.startsWith('?'));
    assert.is(pathOf(`http://h/otp/request${text}`), path);
  }));
});

test.after(stopServers);
test.run();
