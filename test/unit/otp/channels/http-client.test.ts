/** POST requests on real sockets: bounds, errors, connection reuse and TLS. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createPoster } from '../../../../src/otp/channels/http-client.ts';
import type { Poster, PostResult, PostTarget } from '../../../../src/otp/channels/http-client.ts';
import { createCertificate } from '../../../harness/certificate.ts';
import {
  answer, cutAfterHead, cutBeforeHead, cutInHead, endless, hang, hangAfterHead, redirect, slow,
} from '../../../harness/http-sink.ts';
import type { Behaviour, HttpSink, SinkOptions } from '../../../harness/http-sink.ts';
import { createGate, promptly, timed } from '../../../harness/waiting.ts';
import { atEnd, closing, endAll, startSink } from './fixture.ts';

/** A time-out where nothing is to come before it, and one where something must. */
const SHORT_MS = 60;
const LONGER_MS = 2000;

const OK: PostResult = { status: 200, retryAfterSeconds: null };

function posterTo(url: string, target: Partial<PostTarget> = {}): Poster {
  return closing(createPoster({ url: new URL('/hook?a=b', url), ca: null, ...target }));
}

function send({ post }: Poster, body = 'x'): Promise<PostResult> {
  return post(() => ({ headers: { 'Content-Type': 'text/plain' }, body }));
}

async function start(
  target: Partial<PostTarget> = {},
  options: SinkOptions = {},
): Promise<{ sink: HttpSink; poster: Poster }> {
  const sink = await startSink(options);
  return { sink, poster: posterTo(sink.url, target) };
}

/** The number of the connection of each request. */
function connectionsOf(sink: HttpSink): number[] {
  return sink.requests.map(({ connection }) => connection);
}

test('a POST has the composed headers and body, and its length in bytes', async () => {
  const { sink, poster } = await start();
  assert.equal(await send(poster, 'Schlüssel 🔑'), OK);
  const [{ method, path, headers, body }] = await sink.waitFor(1) as [HttpSink['requests'][0]];
  assert.is(`${method} ${path} ${body}`, 'POST /hook?a=b Schlüssel 🔑');
  assert.is(headers['content-length'], '15');
  assert.is(headers['transfer-encoding'], undefined);
  assert.is(headers['content-type'], 'text/plain');
  assert.is(headers['user-agent'], 'otpd');
  assert.is(headers.host, `127.0.0.1:${sink.port}`);
});

test('the result contains Retry-After and the status', async () => {
  const { sink, poster } = await start();
  const at = { 'Retry-After': 'Wed, 21 Oct 2015 07:28:00 GMT' };
  sink.behaveNext(
    answer(503, { 'Retry-After': '7' }),
    answer(429, { ...at, Date: 'Wed, 21 Oct 2015 07:26:30 GMT' }),
    answer(500),
  );
  assert.equal(await send(poster), { status: 503, retryAfterSeconds: 7 });
  assert.equal(await send(poster), { status: 429, retryAfterSeconds: 90 });
  assert.equal(await send(poster), { status: 500, retryAfterSeconds: null });
});

test('redirects are not followed', async () => {
  const { sink: other } = await start();
  const { sink, poster } = await start();
  for (const status of [301, 302, 303, 307, 308]) {
    sink.behaveNext(redirect(`${other.url}/`, status));
    assert.equal(await send(poster), { status, retryAfterSeconds: null });
  }
  assert.is(sink.requests.length, 5);
  assert.is(other.requests.length, 0);
});

test('connections are reused up to the maximum, and further requests queue', async () => {
  const { sink, poster } = await start({ maxSockets: 2 }, { behaviour: slow(5) });
  const results = await Promise.all(Array.from({ length: 9 }, () => send(poster)));
  assert.equal(results, Array.from({ length: 9 }, () => OK));
  assert.equal([...new Set(connectionsOf(sink))].sort(), [1, 2]);
});

test('a response is read up to 16 KiB, and its status counts whatever its length', async () => {
  const { sink, poster } = await start({ maxSockets: 1 });
  sink.behaveNext(answer(200, {}, 'x'.repeat(16 * 1024)));
  assert.equal(await send(poster), OK);
  sink.behaveNext(answer(202, {}, 'x'.repeat(16 * 1024 + 1)));
  assert.equal(await send(poster), { ...OK, status: 202 });
  await sink.waitForConnections(0);
  sink.behaveNext(endless(503));
  assert.equal(await send(poster), { ...OK, status: 503 });
  await sink.waitForConnections(0);
  assert.equal(await send(poster), OK);
  assert.equal(connectionsOf(sink), [1, 1, 2, 3]);
});

test('the timeout covers handshake, response header, body and queue', async () => {
  const mute = createServer(() => {}).listen(0, '127.0.0.1');
  await once(mute, 'listening');
  atEnd(() => { mute.close(); });
  const muteUrl = `https://127.0.0.1:${(mute.address() as AddressInfo).port}`;
  const { sink, poster } = await start({ timeoutMs: SHORT_MS, maxSockets: 1 });

  const handshake = await promptly(() =>
    timed(() => send(posterTo(muteUrl, { timeoutMs: SHORT_MS }))));
  assert.equal(handshake.result, { code: 'ETIMEDOUT' });
  assert.ok(handshake.ms >= SHORT_MS - 2, String(handshake.ms));

  sink.behaveNext(hang);
  const head = await promptly(() => timed(() => Promise.all([send(poster), send(poster)])));
  assert.equal(head.result, [{ code: 'ETIMEDOUT' }, { code: 'ETIMEDOUT' }]);
  assert.ok(head.ms >= SHORT_MS - 2, String(head.ms));

  // The status is there in time; that the body is given up shows at the other end. Not at the same
  // one: of two that wait for one connection the second may be on its way when it is given up.
  const { sink: other, poster: patient } = await start({ timeoutMs: LONGER_MS });
  other.behaveNext(hangAfterHead(200));
  assert.equal(await send(patient), OK);
  await other.waitForConnections(0);
});

test('a slow response within the timeout counts', async () => {
  const { poster } = await start({}, { behaviour: slow(SHORT_MS) });
  assert.equal(await send(poster), OK);
});

test('a network error is a code', async () => {
  const { sink, poster } = await start();
  sink.behaveNext(cutBeforeHead);
  assert.equal(await send(poster), { code: 'ECONNRESET' });
  sink.behaveNext(cutInHead);
  assert.equal(await send(poster), { code: 'ECONNRESET' });
  sink.behaveNext(answer(200, { Long: 'x'.repeat(32 * 1024) }));
  assert.equal(await send(poster), { code: 'HPE_HEADER_OVERFLOW' });
  assert.is(sink.requests.length, 3);
  await sink.close();
  assert.equal(await send(poster), { code: 'ECONNREFUSED' });
  const nowhere = posterTo('http://nowhere.invalid');
  assert.match((await send(nowhere) as { code: string }).code, /^(ENOTFOUND|EAI_AGAIN)$/);
});

test('an exception while composing is a code without its message', async () => {
  const { sink, poster } = await start();
  const secret = new TypeError('of 123456');
  assert.equal(await poster.post(() => { throw secret; }), { code: 'TypeError' });
  const named = Object.assign(new Error('x'), { code: 'code 123456', name: '123456' });
  assert.equal(await poster.post(() => { throw named; }), { code: 'UNKNOWN' });
  const headers = { 'webhook-id': 'a\r\nb: c' };
  assert.equal(await poster.post(() => ({ headers, body: '' })), { code: 'ERR_INVALID_CHAR' });
  assert.is(sink.requests.length, 0);
});

test('the status counts when the connection breaks inside the body', async () => {
  const { sink, poster } = await start();
  sink.behaveNext(cutAfterHead(200));
  assert.equal(await send(poster), OK);
  await sink.waitForConnections(0);
  assert.equal(await send(poster), OK);
  assert.equal(connectionsOf(sink), [1, 2]);
});

for (const scheme of ['http', 'https'] as const) {
  test(`a request is repeated after the server closed an idle connection (${scheme})`, async () => {
    const certificate = createCertificate();
    const isTls = scheme === 'https';
    const { sink, poster } = await start({ maxSockets: 1, ca: isTls ? certificate.cert : null },
      isTls ? { tls: certificate } : {});
    sink.behaveNext(answer(200), cutBeforeHead, answer(201));
    assert.equal(await send(poster, 'a'), OK);
    assert.equal(await send(poster, 'b'), { ...OK, status: 201 });
    assert.equal(connectionsOf(sink), [1, 1, 2]);
    assert.equal(sink.requests.map(({ body }) => body).join(''), 'abb');
  });
}

test('a request that waited for the closed connection is repeated too', async () => {
  const { sink, poster } = await start({ maxSockets: 1 });
  sink.behaveNext(slow(5), cutBeforeHead, answer(201));
  const results = await Promise.all([send(poster, 'a'), send(poster, 'b')]);
  assert.equal(results, [OK, { ...OK, status: 201 }]);
  assert.equal(connectionsOf(sink), [1, 1, 2]);
});

test('the repeat uses a new connection, because other idle ones may be closed too',
  async () => {
    const { sink, poster } = await start({}, { behaviour: hang });
    const gates = [createGate(), createGate()];
    sink.behaveNext(...gates.map(({ promise }): Behaviour => async (...given) => {
      await promise;
      answer(200)(...given);
    }), cutBeforeHead, answer(201));
    const results = gates.map(() => send(poster));
    await sink.waitFor(2);
    for (const { open } of gates) open();
    assert.equal(await Promise.all(results), [OK, OK]);
    assert.equal(await send(poster), { ...OK, status: 201 });
    assert.is(connectionsOf(sink).at(-1), 3);
  });

test('a request is repeated once, and only when no byte came back', async () => {
  const { sink, poster } = await start({ maxSockets: 1 });
  sink.behaveNext(answer(200), cutBeforeHead, cutBeforeHead);
  assert.equal(await send(poster), OK);
  assert.equal(await send(poster), { code: 'ECONNRESET' });
  assert.is(sink.requests.length, 3);
  sink.behaveNext(answer(200), cutInHead);
  assert.equal(await send(poster), OK);
  assert.equal(await send(poster), { code: 'ECONNRESET' });
  assert.is(sink.requests.length, 5);
});

test('a request that times out is not repeated', async () => {
  const { sink, poster } = await start({ timeoutMs: LONGER_MS, maxSockets: 1 });
  sink.behaveNext(answer(200), hang);
  assert.equal(await send(poster), OK);
  assert.equal(await send(poster), { code: 'ETIMEDOUT' });
  await sink.waitForConnections(0);
  assert.equal(await send(poster), OK);
  assert.equal(connectionsOf(sink), [1, 1, 2]);
});

test('an idle connection is closed when Keep-Alive of the server says so', async () => {
  const { sink, poster } = await start();
  sink.behaveNext(answer(200, { 'Keep-Alive': 'timeout=2' }));
  assert.equal(await send(poster), OK);
  await sink.waitForConnections(0);
});

test('the timeout covers the repeat', async () => {
  const { sink, poster } = await start({ timeoutMs: LONGER_MS, maxSockets: 1 });
  sink.behaveNext(answer(200), cutBeforeHead, hang);
  assert.equal(await send(poster), OK);
  assert.equal(await send(poster), { code: 'ETIMEDOUT' });
  assert.is(sink.requests.length, 3);
  await sink.waitForConnections(0);
});

test('close aborts requests in flight and in the queue, and later ones fail', async () => {
  const { sink, poster } = await start({ maxSockets: 1 }, { behaviour: hang });
  const results = [send(poster), send(poster)];
  await sink.waitFor(1);
  poster.close();
  assert.equal(await Promise.all(results), [{ code: 'ECANCELED' }, { code: 'ECANCELED' }]);
  assert.equal(await send(poster), { code: 'ECANCELED' });
  await sink.waitForConnections(0);
  assert.is(sink.requests.length, 1);
});

test('close closes idle connections', async () => {
  const { sink, poster } = await start();
  assert.equal(await send(poster), OK);
  assert.is(sink.openConnections, 1);
  poster.close();
  await sink.waitForConnections(0);
});

test('a self-signed certificate is accepted with its authority only', async () => {
  const tls = createCertificate();
  const { sink, poster } = await start({}, { tls });
  assert.equal(await send(poster), { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' });
  const other = posterTo(sink.url, { ca: createCertificate().cert });
  assert.match((await send(other) as { code: string }).code, /^(DEPTH_ZERO|UNABLE_TO_VERIFY)/);
  assert.is(sink.requests.length, 0);
  assert.equal(await send(posterTo(sink.url, { ca: tls.cert })), OK);
  assert.is(sink.requests.length, 1);
});

test('a certificate of another host is refused, whatever the environment says', async () => {
  const tls = createCertificate({ address: '127.0.0.2' });
  const { sink, poster } = await start({ ca: tls.cert }, { tls });
  assert.equal(await send(poster), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
  const result = await send(poster);
  delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
  assert.equal(result, { code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
  assert.is(sink.requests.length, 0);
});

test('TLS to a server without TLS is a code', async () => {
  const sink = await startSink();
  const result = await send(posterTo(sink.url.replace('http:', 'https:')));
  assert.match((result as { code: string }).code, /^(EPROTO|ERR_SSL_)/);
});

test.after(endAll);
test.run();
