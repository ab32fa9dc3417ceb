/** What a request carries: its media type, size, JSON, fields and key. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import fc from 'fast-check';
import { parseJsonObject } from '../../../src/http/input/body.ts';
import { isMediaType } from '../../../src/http/input/request-head.ts';
import { createPolicies, DEFAULT_POLICY } from '../../../src/otp/policy/policy.ts';
import { newApiClients } from '../../harness/api-clients.ts';
import { eventually, timed } from '../../harness/waiting.ts';
import { startServer, stopServers } from '../fake-service.ts';
import { exchange, openClient, post } from '../raw-client.ts';
import type { RawClient } from '../raw-client.ts';

const BODY = '{"user_id":"u","purpose":"p"}';
const FLOOD_BYTES = 200 * 1024 * 1024;
const WAITING = { Expect: '100-continue' };

/** The time for which the server reads excess bytes. */
const LINGER_MS = 1000;

/** A valid body, padded to a number of bytes. */
function bodyOf(bytes: number): string {
  return BODY + ' '.repeat(bytes - BODY.length);
}

function chunked(body: string, size: number): string {
  let text = '';
  for (let at = 0; at < body.length; at += size) {
    const chunk = body.slice(at, at + size);
    text += `${chunk.length.toString(16)}\r\n${chunk}\r\n`;
  }
  return post('/otp/request', '', { 'Content-Length': null, 'Transfer-Encoding': 'chunked' })
    + `${text}0\r\n\r\n`;
}

test('a type other than unencoded JSON in UTF-8 gets 415 with what is accepted', async () => {
  const { port } = await startServer();
  const type = 'Content-Type';
  const types: [string | null, number][] = [
    ['application/json', 201], ['Application/JSON', 201], ['application/json;charset=utf-8', 201],
    ['application/json; charset=UTF-8', 201], ['application/json ; Charset="utf-8"', 201],
    ['application/json;', 201], ['application/json ;\t; ;charset=utf-8;', 201],
    ['application/json;charset=utf8', 201], ['application/json;charset="UTF\\-8"', 201],
    ['application/json;a=b', 201], ['application/json; v="a;charset=x, \\"b\\""; q=1', 201],
    ['application/json;charset=utf-8;charset=utf-8', 201], ['application/json;xcharset=a', 201],
    ['application/json;charset=utf-8;charset=latin1', 415], ['application/json;a', 415],
    ['application/json;a=b;CHARSET="utf-16"', 415], ['application/json;charset=', 415],
    ['application/json;charset=""', 415], ['application/json;charset = utf-8', 415],
    ['application/json;a="b', 415], ['application/json;a=b c', 415], ['application/json;=b', 415],
    ['application/json;charset=utf-8, text/plain', 415], ['application/json charset=utf-8', 415],
    ['application/json;;a=b,application/json', 415], [', application/json', 415],
    [null, 415], ['', 415], ['text/plain', 415], ['application/json;charset=utf-16', 415],
    ['application/jsonx', 415], ['application/problem+json', 415], ['application/json, a/b', 415],
    ['application/json\r\nContent-Type: application/json', 415], ['application', 415],
    [`application/json;${' '.repeat(9000)}x`, 415],
  ];
  for (const [value, status] of types) {
    const got = await exchange(port, post('/otp/request', BODY, { [type]: value }));
    assert.is(got.status, status, String(value));
    if (status !== 415) continue;
    assert.is(got.headers.get('accept'), 'application/json');
    assert.is(got.body, '{"error":"unsupported_media_type","message":"send Content-Type:'
      + ' application/json, once and in UTF-8"}');
  }
  const coding = 'Content-Encoding';
  const codings: [string, number][] = [['identity', 201], ['Identity', 201], ['gzip', 415],
    ['br, identity', 415], ['identity\r\nContent-Encoding: gzip', 415], ['x', 415]];
  for (const [value, status] of codings) {
    const got = await exchange(port, post('/otp/request', BODY, { [coding]: value }));
    assert.is(got.status, status, value);
    if (status !== 415) continue;
    assert.is(got.headers.get('accept-encoding'), 'identity');
    assert.match(got.body, '"message":"send the body without Content-Encoding"');
  }
});

test('the connection stays open after a 415 with a small body', async () => {
  const { port } = await startServer();
  const client = await openClient(port);
  client.send(post('/otp/request', bodyOf(4096), { 'Content-Type': 'text/plain' }));
  assert.is((await client.readResponse()).status, 415);
  client.send(post('/otp/request', BODY));
  assert.is((await client.readResponse()).status, 201);
  client.destroy();
});

test('a body of 4096 bytes is read and one of 4097 is refused, in both framings', async () => {
  const { port, requests } = await startServer();
  const rows: [string, string, number][] = [
    ['length 4096', post('/otp/request', bodyOf(4096)), 201],
    ['length 4097', post('/otp/request', bodyOf(4097)), 413],
    ['chunked 4096', chunked(bodyOf(4096), 1000), 201],
    ['chunked 4097', chunked(bodyOf(4097), 1000), 413],
    ['chunked 4097, bytewise', chunked(bodyOf(4097), 1), 413],
    ['nothing', post('/otp/request', ''), 400],
    ['no length', post('/otp/request', '', { 'Content-Length': null }), 400],
  ];
  for (const [name, bytes, status] of rows) {
    const client = await openClient(port);
    client.send(bytes);
    const got = await client.readResponse();
    assert.is(got.status, status, name);
    if (status === 413) {
      assert.is(got.body, '{"error":"payload_too_large"}');
      assert.is(got.headers.get('connection'), 'close');
      assert.is(await client.ended(), '', name);
    }
    client.destroy();
  }
  assert.is(requests.length, 2);
});

test('a body may arrive with its headers, after them, or in pieces', async () => {
  const { port, requests } = await startServer();
  const client = await openClient(port);
  const bytes = post('/otp/request', BODY);
  const body = bytes.length - BODY.length;
  const cuts = [[], [body], [body - 1], [body + 7], [body, body + 7], [bytes.length - 1]];
  for (const cut of cuts) {
    let from = 0;
    for (const to of [...cut, bytes.length]) {
      client.send(bytes.slice(from, to));
      // The server has read the piece before it responds on another connection.
      await exchange(port, post('/otp/none', ''));
      from = to;
    }
    assert.is((await client.readResponse()).status, 201, String(cut));
  }
  assert.is(requests.length, cuts.length);
  assert.ok(requests.every(({ userId, purpose }) => userId === 'u' && purpose === 'p'));
  client.destroy();
});

/** Sends blocks until the connection ends; resolves with the bytes that it accepted. */
function flood(client: RawClient, chunkedBody: boolean): () => number {
  const block = Buffer.alloc(64 * 1024, 0x20);
  const unit = chunkedBody
    ? Buffer.concat([Buffer.from('10000\r\n'), block, Buffer.from('\r\n')]) : block;
  let sent = 0;
  const pump = (): void => {
    do sent += unit.length;
    while (client.socket.write(unit) && sent < FLOOD_BYTES);
  };
  client.socket.on('drain', pump);
  pump();
  return () => sent;
}

test('a client that sends 200 MiB gets 413, is not read further, and is disconnected', async () => {
  const { port } = await startServer();
  const one = async (name: string, value: string): Promise<void> => {
    const client = await openClient(port);
    client.send(post('/otp/request', '', { 'Content-Length': null, [name]: value }));
    const sent = flood(client, value === 'chunked');
    assert.is((await client.readResponse()).status, 413, name);
    await client.gone();
    // The kernel buffers of both ends hold a small part of the whole.
    assert.ok(sent() < FLOOD_BYTES / 8, `${name}: ${sent()} bytes`);
  };
  await Promise.all([one('Content-Length', String(FLOOD_BYTES)),
    one('Transfer-Encoding', 'chunked')]);
});

/** Sends excess bytes; resolves with the error code, or '', when the connection is closed. */
async function sendTooMuch(port: number, bytes: string): Promise<string> {
  const client = await openClient(port);
  client.send(bytes.slice(0, 10_000));
  const got = await client.readResponse();
  assert.is(got.headers.get('connection'), 'close');
  assert.is(await client.ended(), '');
  // The server has closed its side but still accepts the bytes in flight.
  for (let at = 10_000; at < bytes.length; at += 10_000) {
    const part = bytes.slice(at, at + 10_000);
    await new Promise((resolve) => { client.socket.write(part, resolve); });
    assert.is((await exchange(port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n')).status, 404);
  }
  client.socket.end();
  return client.gone();
}

test('a client that sends 50 KiB too much reads its response and is not reset', async () => {
  const { port } = await startServer();
  const body = ' '.repeat(50 * 1024);
  for (const bytes of [post('/otp/request', body), post('/otp/none', body), chunked(body, 9999)]) {
    await eventually('it ends without a reset', async () => {
      const { ms, result } = await timed(() => sendTooMuch(port, bytes));
      // On a busy machine a client that takes longer is reset and tries again.
      assert.ok(result === '' || ms > LINGER_MS, `${result} after ${ms} ms`);
      return result === '';
    });
  }
});

test('an early response closes the connection when the unread body is unbounded', async () => {
  const { port } = await startServer();
  const framings = [{ 'Content-Length': '4097' },
    { 'Content-Length': null, 'Transfer-Encoding': 'chunked' }];
  for (const framing of framings) {
    const rows: [string, number][] = [
      [post('/none', '', framing), 404],
      [post('/otp/request', '', framing).replace('POST', 'PUT'), 405],
      [post('/otp/request', '', { ...framing, 'Content-Type': 'a/b' }), 415],
    ];
    for (const [bytes, status] of rows) {
      const got = await exchange(port, bytes);
      assert.is(`${got.status} ${got.headers.get('connection')}`, `${status} close`);
    }
  }
  const read = await exchange(port, chunked(BODY, 7));
  assert.is(`${read.status} ${read.headers.get('connection')}`, '201 keep-alive');
});

/** Quadratic time would take seconds. CPU time does not depend on what else the machine does. */
const CPU_MAX_MICROSECONDS = 100_000;

test('a long hostile list of parameters is read in linear time', () => {
  const start = process.cpuUsage();
  for (const part of [';', ' ', '; ', ';a=1', ';a="', ';\t \t', '\\"']) {
    isMediaType(`application/json${part.repeat(16_000 / part.length)}!`, 'application/json');
    isMediaType(`application/json;a="${part.repeat(16_000 / part.length)}`, 'application/json');
  }
  assert.ok(process.cpuUsage(start).user < CPU_MAX_MICROSECONDS);
});

test('a body that begins with a byte order mark gets 400 that names it', async () => {
  const { port } = await startServer();
  const bytes = `\u00ef\u00bb\u00bf${BODY}`;
  const got = await exchange(port,
    Buffer.from(post('/otp/request', bytes, { 'Content-Length': '32' }), 'latin1'));
  assert.is(`${got.status} ${got.body}`, '400 {"error":"invalid_request","field":"body",'
    + '"message":"must not begin with a byte order mark (EF BB BF)"}');
});

test('100-continue is sent only when the headers are valid', async () => {
  const { port, requests } = await startServer();
  const early: [string, Record<string, string | null>, number][] = [
    ['/otp/request', { 'Idempotency-Key': null }, 400],
    ['/otp/request', { 'Idempotency-Key': '' }, 400],
    ['/otp/request', { 'Idempotency-Key': 'a\r\nIdempotency-Key: a' }, 400],
    ['/otp/verify', { 'Idempotency-Key': '"a' }, 400],
    ['/otp/request', { Origin: 'http://a' }, 403],
    ['/otp/request', { 'Content-Length': '4097' }, 413],
    ['/otp/request', { 'Content-Type': 'text/plain' }, 415],
    ['/otp/nothing', {}, 404],
    ['/otp/request', { Host: 'a b' }, 400],
  ];
  for (const [path, headers, status] of early) {
    const client = await openClient(port);
    const all = { 'Content-Length': String(BODY.length), ...WAITING, ...headers };
    client.send(post(path, '', all));
    const got = await client.readResponse();
    assert.is(`${got.status} ${got.headers.get('connection')}`, `${status} close`);
    assert.is(await client.ended(), '');
    client.destroy();
  }
  const client = await openClient(port);
  client.send(post('/otp/request', '', { 'Content-Length': String(BODY.length), ...WAITING }));
  assert.is((await client.readResponse()).head, 'HTTP/1.1 100 Continue');
  assert.is(requests.length, 0);
  client.send(BODY);
  assert.is((await client.readResponse()).status, 201);
  client.send(post('/otp/request', BODY));
  assert.is((await client.readResponse()).status, 201);
  client.destroy();
  for (const length of ['0', null]) {
    const bytes = post('/otp/request', '', { 'Content-Length': length, ...WAITING });
    assert.is((await exchange(port, bytes)).status, 400, 'no body is announced');
  }
});

test('another expectation gets 417 and closes the connection; HTTP/1.0 ignores it', async () => {
  const { port } = await startServer();
  for (const expect of ['200-ok', '100-continue, x', 'x-100-continue', '100-continue=1']) {
    const client = await openClient(port);
    client.send(post('/otp/request', BODY, { Expect: expect }));
    const got = await client.readResponse();
    assert.is(`${got.status} ${got.body}`, '417 {"error":"expectation_failed"}', expect);
    assert.is(got.headers.get('connection'), 'close');
    client.destroy();
  }
  const old = post('/otp/request', BODY, { Expect: 'x' }).replace('HTTP/1.1', 'HTTP/1.0');
  assert.is((await exchange(port, old)).status, 201);
});

test('a header section over the limit of bytes or of lines gets 431', async () => {
  const { port } = await startServer();
  const padded = (bytes: number): string =>
    post('/otp/request', BODY, { 'X-A': 'a'.repeat(bytes) });
  assert.is((await exchange(port, padded(15_000))).status, 201);
  const target = post(`/otp/request?${'a'.repeat(8000)}`, BODY);
  assert.is((await exchange(port, target)).status, 201);
  const many = (count: number): string =>
    `GET / HTTP/1.1\r\n${'a:\r\n'.repeat(count - 1)}Host: a\r\n\r\n`;
  assert.is((await exchange(port, many(100))).status, 404);
  const long = post(`/${'a'.repeat(17_000)}`, BODY);
  for (const bytes of [padded(16 * 1024), long, many(101), many(4000)]) {
    const client = await openClient(port);
    client.send(bytes);
    const got = await client.readResponse();
    assert.is(`${got.status} ${got.body}`, '431 {"error":"headers_too_large"}');
    assert.is(got.headers.get('connection'), 'close');
    await client.ended();
    client.destroy();
  }
});

/** Sends a body; resolves with the status and, for a 400, the field. */
async function send(port: number, path: string, body: string | Buffer): Promise<string> {
  const head = post(path, '', { 'Content-Length': String(Buffer.byteLength(body)) });
  const got = await exchange(port, Buffer.concat([Buffer.from(head), Buffer.from(body)]));
  const { field = '', message = '' } = JSON.parse(got.body) as Record<string, string>;
  if (got.status === 400) assert.equal(Object.keys(JSON.parse(got.body)),
    ['error', 'field', 'message']);
  assert.not.match(message, /123456|secret/);
  return `${got.status} ${field}`.trim();
}

test('a body that is not the expected object gets 400', async () => {
  const { port } = await startServer();
  const rows: [string | Buffer, string][] = [
    ['', 'body'], ['null', 'body'], ['[]', 'body'], ['"x"', 'body'], ['1', 'body'],
    ['{', 'body'], ["{'user_id':'u'}", 'body'], [`${BODY}x`, 'body'], [`${BODY}${BODY}`, 'body'],
    [`\u{feff}${BODY}`, 'body'], ['[{"user_id":"u","purpose":"p"}]', 'body'],
    ['['.repeat(4096), 'body'], ['{"user_id":"u","purpose":"p",}', 'body'],
    [Buffer.from('{"user_id":"\xff","purpose":"p"}', 'latin1'), 'body'],
    [Buffer.from('{"user_id":"\xc0\xaf","purpose":"p"}', 'latin1'), 'body'],
    [Buffer.from('{"user_id":"\xed\xa0\x80","purpose":"p"}', 'latin1'), 'body'],
    [Buffer.from(BODY, 'utf16le'), 'body'],
    ['{"user_id":"u","purpose":"p","admin":true}', 'admin'],
    ['{"user_id":"u","purpose":"p","__proto__":{}}', '__proto__'],
    ['{"user_id":"u","purpose":"p","constructor":"x"}', 'constructor'],
    ['{"user_id":"u","purpose":"p","code":"123456"}', 'code'],
    ['{"user_id":"u","purpose":"p","123456":"x"}', 'body'],
    ['{"user_id":"u","purpose":"p","<b>":"x"}', 'body'],
    [`{"user_id":"u","purpose":"p","${'a'.repeat(33)}":"x"}`, 'body'],
    ['{"user_id":"u","user_id":"v","purpose":"p"}', 'user_id'],
    ['{"user_id":"u","purpose":"p","purpose":"p"}', 'purpose'],
    ['{"user_id":"u","\\u0075ser_id":"v","purpose":"p"}', 'user_id'],
    ['{"user_id":{"user_id":"x"},"user_id":"v","purpose":"p"}', 'user_id'],
    ['{"user_id":1,"user_id":"v","purpose":"p"}', 'user_id'],
    ['{"user_id":{"purpose":"x"},"purpose":"p","user_id":"v"}', 'user_id'],
  ];
  for (const [body, field] of rows) {
    assert.is(await send(port, '/otp/request', body), `400 ${field}`, String(body));
  }
});

test('user_id and purpose are strings of bounded length, counted in code points', async () => {
  const { port, requests } = await startServer();
  const bad = ['1', 'true', 'null', '["u"]', '{"a":"b"}', '""', '"\\u0000"', '"a\\nb"', '"\\u007f"',
    '"\\u0085"', '"\\ud800"', '"\\udc00\\ud800"', '["u","v"]'];
  for (const value of bad) {
    const first = `{"user_id":${value},"purpose":""}`;
    assert.is(await send(port, '/otp/request', first), '400 user_id', value);
    const second = `{"user_id":"u","purpose":${value}}`;
    assert.is(await send(port, '/otp/request', second), '400 purpose', value);
  }
  assert.is(await send(port, '/otp/request', '{}'), '400 user_id');
  assert.is(await send(port, '/otp/request', '{"user_id":"u"}'), '400 purpose');
  const of = (id: string, purpose: string): string =>
    JSON.stringify({ user_id: id, purpose });
  for (const letter of ['a', 'é', '€', '😀']) {
    const longest = of(letter.repeat(255), letter.repeat(100));
    assert.is(await send(port, '/otp/request', longest), '201', letter);
    assert.is(requests.at(-1)?.userId, letter.repeat(255));
    assert.is(await send(port, '/otp/request', of(letter.repeat(256), 'p')), '400 user_id');
    assert.is(await send(port, '/otp/request', of('u', letter.repeat(101))), '400 purpose');
  }
  for (const id of ['U1', 'u1 ', ' u1', 'ú1', '\u200b', "' or 1=1", '\ufeffu', '\ufffd']) {
    assert.is(await send(port, '/otp/request', of(id, 'p')), '201', id);
    assert.is(requests.at(-1)?.userId, id);
  }
});

test('both endpoints refuse a purpose that is not allowed', async () => {
  const policies = createPolicies(DEFAULT_POLICY, new Map(), new Set(['login', 'pay']));
  const { port, requests, verifications } = await startServer({ policies });
  const rows: [string, string][] = [
    ['login', 'ok'], ['pay', 'ok'], ['Login', '400 purpose'], ['login ', '400 purpose'],
    ['x', '400 purpose'],
  ];
  for (const [purpose, expected] of rows) {
    const body = { user_id: 'u', purpose };
    const request = await send(port, '/otp/request', JSON.stringify(body));
    assert.is(request, expected === 'ok' ? '201' : expected, purpose);
    const verify = await send(port, '/otp/verify', JSON.stringify({ ...body, code: '012345' }));
    assert.is(verify, expected === 'ok' ? '200' : expected, purpose);
  }
  assert.is(requests.length, 2);
  assert.is(verifications.length, 2);
  const got = await exchange(port, post('/otp/request', '{"user_id":"u","purpose":"x"}'));
  assert.equal(JSON.parse(got.body), {
    error: 'invalid_request', field: 'purpose',
    message: 'must be one of the purposes that are allowed',
  });
});

test('an otp_id has 32 lower-case hexadecimal digits, and may be required', async () => {
  const policies = createPolicies(DEFAULT_POLICY,
    new Map([['bound', { ...DEFAULT_POLICY, requiresOtpId: true }]]));
  const { port, verifications } = await startServer({ policies });
  const id = '0123456789abcdef'.repeat(2);
  const rows = [
    ['p', null, '200'], ['bound', null, '400 otp_id'], ['p', `"${id}"`, '200'],
    ['bound', `"${id}"`, '200'], ['p', '""', '400 otp_id'], ['p', 'null', '400 otp_id'],
    ['p', '12', '400 otp_id'], ['p', `["${id}"]`, '400 otp_id'], ['p', `"${id}0"`, '400 otp_id'],
    ['p', `"${id.slice(1)}"`, '400 otp_id'], ['p', `"${id.toUpperCase()}"`, '400 otp_id'],
    ['p', `" ${id.slice(1)}"`, '400 otp_id'], ['p', `"${id}\\n"`, '400 otp_id'],
    ['p', `"${id}","otp_id":"${id}"`, '400 otp_id'],
  ] as const;
  for (const [purpose, given, expected] of rows) {
    const body = `{"user_id":"u","purpose":"${purpose}","code":"123456"${
      given === null ? '' : `,"otp_id":${given}`}}`;
    assert.is(await send(port, '/otp/verify', body), expected, body);
  }
  assert.equal(verifications.map(({ otpId }) => otpId), [null, id, id]);
  assert.is(await send(port, '/otp/request', `{"user_id":"u","purpose":"p","otp_id":"${id}"}`),
    '400 otp_id');
});

test('a code has 6 to 10 digits, and the service decides whether they are enough', async () => {
  const eight = { ...DEFAULT_POLICY, codeDigits: 8 };
  const policies = createPolicies(DEFAULT_POLICY, new Map([['wide', eight]]));
  const { port, verifications } = await startServer({ policies });
  const rows: [string, string, string][] = [
    ['p', '"012345"', '200'], ['p', '"12345"', '400 code'], ['p', '"12345678901"', '400 code'],
    ['p', '"12345a"', '400 code'], ['p', '" 23456"', '400 code'], ['p', '"12345\\n"', '400 code'],
    ['p', '"１２３４５６"', '400 code'], ['p', '123456', '400 code'], ['p', '"-12345"', '400 code'],
    ['p', '["123456"]', '400 code'], ['p', 'null', '400 code'], ['p', '""', '400 code'],
    ['wide', '"12345678"', '200'], ['wide', '"1234567890"', '200'],
  ];
  for (const [purpose, code, expected] of rows) {
    const body = `{"user_id":"u","purpose":"${purpose}","code":${code}}`;
    assert.is(await send(port, '/otp/verify', body), expected, code);
  }
  assert.is(await send(port, '/otp/verify', '{"user_id":"u","purpose":"p"}'), '400 code');
  assert.is(verifications.length, 3);
  const { port: strict } = await startServer({
    policies, verify: async () => ({ kind: 'malformed', digits: 6 }),
  });
  const got = await exchange(strict,
    post('/otp/verify', '{"user_id":"u","purpose":"wide","code":"12345678"}'));
  assert.is(got.status, 400);
  assert.equal(JSON.parse(got.body), {
    error: 'invalid_request', field: 'code', message: 'must be a string of 6 digits',
  });
});

test('Idempotency-Key is required to request and optional to verify', async () => {
  const { port, requests, verifications } = await startServer();
  const name = 'Idempotency-Key';
  const verify = '{"user_id":"u","purpose":"p","code":"123456"}';
  const field = (body: string): unknown => (JSON.parse(body) as { field: unknown }).field;
  const twice = 'a\r\nIdempotency-Key: a';
  for (const value of ['', twice, 'é', '"a', '""', 'a'.repeat(256), 'a\tb', '"a" b', '"a\\n"']) {
    for (const [path, body] of [['/otp/request', BODY], ['/otp/verify', verify]] as const) {
      const got = await exchange(port, post(path, body, { [name]: value }));
      assert.is(`${got.status} ${field(got.body)}`, `400 ${name}`, value);
      assert.is(got.headers.has('ratelimit-policy'), path === '/otp/request');
    }
  }
  const missing = await exchange(port, post('/otp/request', BODY, { [name]: null }));
  assert.is(`${missing.status} ${field(missing.body)}`, `400 ${name}`);
  const trailer = `${post('/otp/request', '', {
    [name]: null, 'Content-Length': null, 'Transfer-Encoding': 'chunked',
  })}1d\r\n${BODY}\r\n0\r\nIdempotency-Key: k\r\n\r\n`;
  assert.is((await exchange(port, trailer)).status, 400);
  assert.is(requests.length + verifications.length, 0);
  for (const value of ['a-1', '"a-1"', '"a-1";x=1; y="z"']) {
    await exchange(port, post('/otp/request', BODY, { [name]: value }));
    assert.is(requests.at(-1)?.key, 'a-1', value);
  }
});

test('Accept-Language is passed on with lines joined and cut between members', async () => {
  const { port, requests } = await startServer();
  const name = 'Accept-Language';
  const tags = (count: number): string => new Array(count).fill('de-DE;q=0.5').join(',');
  const rows: [string | null, string][] = [
    [null, ''], ['', ''], ['de', 'de'], ['fr-CH, fr;q=0.9, *;q=0.5', 'fr-CH, fr;q=0.9, *;q=0.5'],
    ['de\r\nAccept-Language: en;q=0.1', 'de,en;q=0.1'], ['<any> \u00fc', '<any> \u00fc'],
    [tags(16), tags(16)], [`${tags(16)},x`, tags(16)], [`${tags(16)},`, `${tags(16)},`],
    [tags(17), tags(16)], [tags(1000), tags(16)], ['x'.repeat(192), 'x'.repeat(192)],
    [`${'x'.repeat(192)},y`, 'x'.repeat(192)], [`${'x'.repeat(193)},y`, ''],
    [`en,${'x'.repeat(8000)}`, 'en'],
  ];
  for (const [value, expected] of rows) {
    const bytes = Buffer.from(post('/otp/request', BODY, { [name]: value }), 'latin1');
    assert.is((await exchange(port, bytes)).status, 201, String(value));
    assert.is(requests.at(-1)?.acceptLanguage, expected, String(value));
  }
});

test('Otp-Device is passed on with lines joined, and never causes an error', async () => {
  const { port, requests, verifications } = await startServer();
  const rows: [string | null, string][] = [
    [null, ''], ['', ''], ['k1.A', 'k1.A'], ['k1.A\r\nOTP-DEVICE: k1.B', 'k1.A,k1.B'],
    [',,;"\u00fc', ',,;"\u00fc'], ['x'.repeat(8000), 'x'.repeat(8000)],
  ];
  for (const [value, expected] of rows) {
    const asks = post('/otp/request', BODY, { 'Otp-Device': value });
    assert.is((await exchange(port, Buffer.from(asks, 'latin1'))).status, 201, String(value));
    assert.is(requests.at(-1)?.deviceTokens, expected);
    const body = '{"user_id":"u","purpose":"p","code":"123456"}';
    const tries = post('/otp/verify', body, { 'Otp-Device': value });
    assert.is((await exchange(port, Buffer.from(tries, 'latin1'))).status, 200, String(value));
    assert.is(verifications.at(-1)?.deviceTokens, expected);
  }
});

test('a user whom no channel can reach gets 400 with the required form, after all other checks',
  async () => {
    const asked: string[] = [];
    const unreachable = (userId: string): string | null => {
      asked.push(userId);
      return userId === 'u' ? 'a phone number such as +14155550123' : null;
    };
    const { port, requests, verifications } = await startServer({ unreachable });
    const got = await exchange(port, post('/otp/request', BODY));
    assert.is(`${got.status} ${got.body}`, '400 {"error":"invalid_request","field":"user_id",'
      + '"message":"must be a phone number such as +14155550123"}');
    assert.ok(got.headers.has('ratelimit-policy'));
    assert.equal(asked, ['u']);
    const faulty = ['{"user_id":"","purpose":"p"}', '{"user_id":"u","purpose":""}'];
    assert.is(await send(port, '/otp/request', faulty[0] as string), '400 user_id');
    assert.is(await send(port, '/otp/request', faulty[1] as string), '400 purpose');
    const none = await exchange(port, post('/otp/request', BODY, { 'Idempotency-Key': null }));
    assert.is(none.status, 400);
    assert.equal(asked, ['u']);
    assert.is(requests.length, 0);
    assert.is(await send(port, '/otp/request', '{"user_id":"+1","purpose":"p"}'), '201');
    assert.is(requests.length, 1);
    const verify = '{"user_id":"u","purpose":"p","code":"123456"}';
    assert.is(await send(port, '/otp/verify', verify), '200');
    assert.is(verifications.length, 1);
    assert.equal(asked, ['u', '+1']);
  });

/** A key with the scope `to`, and one without it. */
const CLIENTS = newApiClients(['trusted', 'plain'], (name) =>
  (name === 'trusted' ? ['request', 'to'] : ['request', 'verify', 'read', 'admin']));

/** Sends optional members of a request; [status, field, message]. */
async function sendOptions(port: number, members: object, client: string | null = 'trusted') {
  const body = JSON.stringify({ user_id: 'u', purpose: 'p', ...members });
  const headers = client === null ? {} : CLIENTS.headersOf(client);
  const got = await exchange(port, Buffer.from(post('/otp/request', body, headers)));
  const { field, message } = JSON.parse(got.body) as Record<string, string>;
  return [got.status, field, message];
}

test('only an API client with the scope to says where a message goes', async () => {
  const { apiKeys } = CLIENTS;
  const { port, requests } = await startServer({ apiKeys });
  const open = await startServer();
  const to = '+14155550123';
  const refusal = [400, 'to',
    'needs an API key with the scope to, because who names it receives the codes of others'];
  assert.equal(await sendOptions(port, { to }, 'plain'), refusal);
  assert.equal(await sendOptions(port, { to: 'bob' }, 'plain'), refusal);
  assert.equal(await sendOptions(open.port, { to }, null), refusal);
  assert.equal(await sendOptions(open.port, { to }, 'trusted'), refusal);
  assert.equal([requests.length, open.requests.length], [0, 0]);
  for (const good of [to, 'Person@Example.com', 'a@münchen.de']) {
    assert.is((await sendOptions(port, { to: good }))[0], 201);
    assert.is(requests.at(-1)!.to, good);
  }
  const rule = [400, 'to', 'must be a phone number such as +14155550123 or an e-mail address'];
  for (const bad of ['', 'bob', '4155550123', 'a@b.example\n', 'a@b', null, 7, [to], { to }]) {
    assert.equal(await sendOptions(port, { to: bad }), rule, String(bad));
  }
  assert.is(requests.length, 3);
});

test('a channel is one of the configured ones, and a locale a well-formed tag', async () => {
  const { port, requests } = await startServer(
    { apiKeys: CLIENTS.apiKeys, channelNames: ['sms', 'email'] },
  );
  assert.is((await sendOptions(port, { channel: 'email', locale: 'pt-BR' }, 'plain'))[0], 201);
  assert.equal([requests[0]!.channel, requests[0]!.locale], ['email', 'pt-BR']);
  for (const channel of ['console', 'SMS', '', null, 1, ['sms']]) {
    assert.equal(await sendOptions(port, { channel }), [400, 'channel', 'must be sms or email']);
  }
  const rule = [400, 'locale', 'must be a language tag such as de or pt-BR'];
  for (const locale of ['', 'd', 'de_DE', 'de,en', '*', null, 1, ['de']]) {
    assert.equal(await sendOptions(port, { locale }), rule, String(locale));
  }
  assert.is(requests.length, 1);
  const faulty = { to: 'x', channel: 'x', locale: '' };
  assert.is((await sendOptions(port, faulty))[1], 'to');
  assert.is((await sendOptions(port, { ...faulty, to: 'a@b.example' }))[1], 'channel');
  assert.is((await sendOptions(port, { ...faulty, purpose: '' }))[1], 'purpose');
});

test('an address that no channel reaches, or not the named one, is the fault of its member',
  async () => {
    const formats = { sms: 'a phone number', email: 'an e-mail address' };
    const reaches = (name: string, address: string): boolean =>
      address.startsWith('+') === (name === 'sms') && address !== 'u';
    const { port, requests } = await startServer({
      apiKeys: CLIENTS.apiKeys,
      channelNames: ['sms', 'email'],
      unreachable: (address, channel = null) => {
        const asked = channel === null ? ['sms', 'email'] as const : [channel as 'sms' | 'email'];
        return asked.some((name) => reaches(name, address)) ? null
          : asked.map((name) => formats[name]).join(' or ');
      },
    });
    const rows: [object, unknown[]][] = [
      [{}, [400, 'user_id', 'must be a phone number or an e-mail address']],
      [{ channel: 'sms' },
        [400, 'channel', 'cannot reach the user_id, which must be a phone number']],
      [{ user_id: '+14155550123', channel: 'email' },
        [400, 'channel', 'cannot reach the user_id, which must be an e-mail address']],
      [{ to: 'a@b.example', channel: 'sms' }, [400, 'to', 'must be a phone number']],
      [{ to: '+14155550123', channel: 'email' }, [400, 'to', 'must be an e-mail address']],
    ];
    for (const [members, expected] of rows) {
      assert.equal(await sendOptions(port, members), expected, JSON.stringify(members));
    }
    assert.is(requests.length, 0);
    for (const members of [
      { to: 'a@b.example' }, { to: 'a@b.example', channel: 'email' },
      { to: '+14155550123', channel: 'sms' }, { user_id: '+14155550123', channel: 'sms' },
    ]) assert.is((await sendOptions(port, members))[0], 201, JSON.stringify(members));
  });

test('the first of several errors in the order of the checks is reported', async () => {
  const { port } = await startServer();
  const key = { 'Idempotency-Key': null };
  const long = { 'Content-Length': '5000' };
  const type = { 'Content-Type': 'text/plain' };
  const expect = { Expect: 'x' };
  const host = { Host: 'a b' };
  const get = (bytes: string): string => bytes.replace('POST', 'GET');
  const rows: [string, string][] = [
    [get(post('/no', '{', { ...key, ...long, ...type, ...expect, ...host })), '400'],
    [get(post('/no', '{', { ...key, ...long, ...type, ...expect })), '404'],
    [get(post('/otp/request', '{', { ...key, ...long, ...type, ...expect })), '405'],
    [post('/otp/request', '{', { ...key, ...long, ...type, ...expect }), '417'],
    [post('/otp/request', '{', { ...key, ...long, ...type }), '415'],
    [post('/otp/request', '{', { ...key, ...long }), '413'],
    [post('/otp/request', '{', key), '400 body'],
    [post('/otp/request', '{"user_id":1,"purpose":1}', key), '400 Idempotency-Key'],
    [post('/otp/request', '{"user_id":1,"purpose":1}'), '400 user_id'],
    [post('/otp/verify', '{"user_id":"u","purpose":1,"code":1}'), '400 purpose'],
  ];
  for (const [bytes, expected] of rows) {
    const got = await exchange(port, bytes);
    const { field = '' } = JSON.parse(got.body) as { field?: string };
    assert.is(`${got.status} ${field}`.trim(), expected, bytes);
  }
});

/** Characters on which a scanner of strings may fail, and others. */
const tricky = fc.oneof(
  fc.constantFrom('"', '\\', '{', '}', '[', ']', ':', ',', ' ', '\n', '\ud83d\ude00'),
  fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
);

/** The members of a flat object in order, with repetitions. */
const members = fc.array(
  fc.tuple(fc.constantFrom('user_id', 'purpose', 'code'), fc.string({ unit: tricky })),
  { maxLength: 6 },
);

test('property: a repeated member is found whatever the strings contain', () => {
  fc.assert(fc.property(members, fc.boolean(), (pairs, escaped) => {
    const literal = (text: string): string => (escaped
      ? `"${[...text].map(escapeOf).join('')}"` : JSON.stringify(text));
    const text = `{ ${pairs.map(([k, v]) => `${literal(k)} : ${literal(v)}`).join(' , ')} }`;
    const result = parseJsonObject(Buffer.from(text), ['user_id', 'purpose', 'code']);
    const seen = new Set<string>();
    const repeated = pairs.find(([name]) => seen.size === seen.add(name).size);
    if (repeated === undefined) {
      assert.ok('members' in result, text);
      assert.equal({ ...result.members }, Object.fromEntries(pairs));
    } else assert.equal(result, { field: repeated[0], message: 'must occur once' });
  }), { numRuns: 500 });
});

/** Writes every UTF-16 code unit as \uXXXX. */
function escapeOf(char: string): string {
  const units = Array.from({ length: char.length }, (_, at) => char.charCodeAt(at));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
}

test('property: any bytes give an object or an error, never an exception', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    const result = parseJsonObject(Buffer.from(bytes), ['a']);
    assert.ok('members' in result || 'field' in result);
  }));
  fc.assert(fc.property(fc.json(), (text) => {
    const result = parseJsonObject(Buffer.from(text), ['a']);
    assert.ok('members' in result || 'field' in result);
  }));
});

test.after(stopServers);
test.run();
