/** Requests through a proxy on real sockets, and the choice of the proxy. */
import { createServer } from 'node:http';
import type { IncomingHttpHeaders } from 'node:http';
import { connect } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createPoster, httpSendResult } from '../../../../src/otp/channels/http-client.ts';
import type { PostTarget } from '../../../../src/otp/channels/http-client.ts';
import { parseProxies } from '../../../../src/otp/channels/proxy.ts';
import type { FindProxy, ProxyValues } from '../../../../src/otp/channels/proxy.ts';
import { createCertificate } from '../../../harness/certificate.ts';
import { answer, cutBeforeHead, startHttpSink } from '../../../harness/http-sink.ts';
import { eventually } from '../../../harness/waiting.ts';
import { atEnd, closing, endAll, startSink } from './fixture.ts';

const HOST = 'receiver.internal';
const NOTHING: ProxyValues = { https: undefined, http: undefined, bypass: undefined };

function proxiesOf(values: Partial<ProxyValues>): FindProxy {
  const parsed = parseProxies({ ...NOTHING, ...values });
  if ('errors' in parsed) throw new Error(parsed.errors.join('; '));
  return parsed.findProxy;
}

type Connect = Readonly<{ target: string; headers: IncomingHttpHeaders }>;

/** A proxy that opens every tunnel to the port, or answers with a status, or does something. */
async function startTunnels(
  port: number,
  onConnect: number | ((socket: Socket) => void) = 200,
): Promise<{ url: string; connects: Connect[]; open: () => number }> {
  const connects: Connect[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((_, response) => { response.writeHead(500).end(); });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => {});
  });
  server.on('connect', ({ url = '', headers }, stream) => {
    const socket = stream as Socket;
    connects.push({ target: url, headers });
    if (typeof onConnect === 'function') {
      // A socket that nobody reads does not show that the other side has closed it.
      socket.resume().on('end', () => socket.destroy());
      return onConnect(socket);
    }
    if (onConnect !== 200) return socket.end(`HTTP/1.1 ${onConnect} No\r\n\r\n`);
    const upstream = connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      upstream.pipe(socket).pipe(upstream);
    });
    upstream.on('error', () => socket.destroy());
    socket.on('error', () => upstream.destroy()).on('close', () => upstream.destroy());
    return undefined;
  });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  atEnd(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, connects, open: () => sockets.size };
}

function posterTo(url: string, proxy: string, target: Partial<PostTarget> = {}) {
  const findProxy = proxiesOf({ https: proxy, http: proxy });
  return closing(createPoster({ url: new URL(url), ca: null, findProxy, ...target }));
}

const PAYLOAD = () => ({ headers: { 'Content-Type': 'text/plain' }, body: 'Schlüssel' });

test('a request to https goes through a tunnel, with TLS to the receiver', async () => {
  const tls = createCertificate({ host: HOST });
  const sink = await startSink({ tls });
  const proxy = await startTunnels(sink.port);
  const account = proxy.url.replace('//', '//us%40er:p%3Ass@');
  const { post } = posterTo(`https://${HOST}/hook?a=b`, account, { ca: tls.cert });
  for (const status of [200, 201]) {
    sink.behaveNext(answer(status));
    assert.equal(await post(PAYLOAD), { status, retryAfterSeconds: null });
  }
  assert.is(proxy.connects.length, 1, 'a tunnel is reused');
  const [{ target, headers }] = proxy.connects as [Connect];
  assert.is(target, `${HOST}:443`);
  assert.is(headers.host, `${HOST}:443`);
  assert.is(headers['proxy-authorization'],
    `Basic ${Buffer.from('us@er:p:ss').toString('base64')}`);
  const [received] = sink.requests;
  assert.is(`${received!.method} ${received!.path} ${received!.body}`,
    'POST /hook?a=b Schlüssel');
  assert.is(received!.headers.host, HOST);
  assert.is(received!.headers['proxy-authorization'], undefined);
});

test('a request to http is sent to the proxy in the absolute form', async () => {
  const sink = await startHttpSink();
  atEnd(() => sink.close());
  const account = sink.url.replace('//', '//user:pass@');
  const { post } = posterTo(`http://${HOST}:8080/hook?a=b`, account);
  assert.equal(await post(PAYLOAD), { status: 200, retryAfterSeconds: null });
  const [{ path, headers, body }] = sink.requests as [typeof sink.requests[0]];
  assert.is(`${path} ${body}`, `http://${HOST}:8080/hook?a=b Schlüssel`);
  assert.is(headers.host, `${HOST}:8080`);
  assert.is(headers['proxy-authorization'],
    `Basic ${Buffer.from('user:pass').toString('base64')}`);
});

test('the certificate of the receiver is verified inside the tunnel', async () => {
  const tls = createCertificate({ host: HOST });
  const sink = await startSink({ tls });
  const proxy = await startTunnels(sink.port);
  const untrusted = posterTo(`https://${HOST}/`, proxy.url);
  assert.equal(await untrusted.post(PAYLOAD), { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' });
  const other = posterTo('https://other.internal/', proxy.url, { ca: tls.cert });
  assert.equal(await other.post(PAYLOAD), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
  assert.is(sink.requests.length, 0);
});

/** [the status of the proxy, the kind of the result] */
const REFUSALS: [number, string][] = [
  [407, 'denied'], [403, 'denied'], [400, 'denied'], [302, 'denied'], [404, 'denied'],
  [429, 'retry'], [500, 'retry'], [502, 'retry'], [504, 'retry'],
];

for (const [status, kind] of REFUSALS) {
  test(`a proxy that answers CONNECT with ${status} gives ${kind}`, async () => {
    const proxy = await startTunnels(0, status);
    const result = await posterTo(`https://${HOST}/`, proxy.url).post(PAYLOAD);
    assert.equal(httpSendResult(result),
      { kind, reason: `proxy status ${status}`, afterSeconds: null });
    await eventually('the connection is closed', () => proxy.open() === 0);
  });
}

test('a proxy that stalls, breaks off, or is not there gives a code', async () => {
  const stalled = await startTunnels(0, () => {});
  const slow = posterTo(`https://${HOST}/`, stalled.url, { timeoutMs: 60 });
  assert.equal(await slow.post(PAYLOAD), { code: 'ETIMEDOUT' });
  await eventually('the connection is closed', () => stalled.open() === 0);
  const cut = await startTunnels(0, (socket) => { socket.destroy(); });
  assert.equal(await posterTo(`https://${HOST}/`, cut.url).post(PAYLOAD), { code: 'ECONNRESET' });
  const mute = await startTunnels(0, (socket) => { socket.write('HTTP/1.1 200 OK\r\n\r\n'); });
  const inTls = posterTo(`https://${HOST}/`, mute.url, { timeoutMs: 60 });
  assert.equal(await inTls.post(PAYLOAD), { code: 'ETIMEDOUT' });
  const gone = await startHttpSink();
  const goneUrl = gone.url;
  await gone.close();
  assert.equal(await posterTo(`https://${HOST}/`, goneUrl).post(PAYLOAD), { code: 'ECONNREFUSED' });
});

test('close ends a tunnel that is being opened', async () => {
  const stalled = await startTunnels(0, () => {});
  const poster = posterTo(`https://${HOST}/`, stalled.url);
  const result = poster.post(PAYLOAD);
  await eventually('the proxy is asked', () => stalled.connects.length === 1);
  poster.close();
  assert.equal(await result, { code: 'ECANCELED' });
  await eventually('the connection is closed', () => stalled.open() === 0);
});

test('a request is repeated through a new tunnel after an idle one was closed', async () => {
  const tls = createCertificate({ host: HOST });
  const sink = await startSink({ tls });
  const proxy = await startTunnels(sink.port);
  const { post } = posterTo(`https://${HOST}/`, proxy.url, { ca: tls.cert, maxSockets: 1 });
  sink.behaveNext(answer(200), cutBeforeHead, answer(201));
  assert.is((await post(PAYLOAD) as { status: number }).status, 200);
  assert.is((await post(PAYLOAD) as { status: number }).status, 201);
  assert.is(proxy.connects.length, 2);
});

/** [NO_PROXY, URLs without the proxy, URLs through it] */
const BYPASSED: [string, string[], string[]][] = [
  ['', [], ['https://example.com/', 'http://10.1.2.3/']],
  ['*', ['https://example.com/', 'http://10.1.2.3/'], []],
  ['example.com', ['https://example.com/', 'https://a.b.EXAMPLE.com./'],
    ['https://notexample.com/', 'https://example.com.evil/']],
  ['.example.com', ['https://example.com/', 'https://a.example.com/'], ['https://xexample.com/']],
  ['*.example.com', ['https://a.example.com/'], ['https://example.org/']],
  ['example.com:8443', ['https://example.com:8443/'], ['https://example.com/']],
  ['example.com:443 , other.test', ['https://example.com/', 'http://other.test/'],
    ['http://example.com/']],
  ['10.1.2.3,192.0.2.0/24', ['http://10.1.2.3/', 'https://192.0.2.77/'],
    ['http://10.1.2.4/', 'http://192.0.3.1/']],
  ['2001:db8::/32,[::2]:443', ['https://[2001:db8::1]/', 'https://[::2]/'],
    ['https://[2001:db9::1]/', 'http://[::2]/']],
  ['10.0.0.0/33,/,:,..,[', [], ['http://10.1.2.3/', 'https://example.com/']],
];

for (const [bypass, direct, proxied] of BYPASSED) {
  test(`NO_PROXY=${bypass} is obeyed`, () => {
    const findProxy = proxiesOf({ https: 'proxy:3128', http: 'http://proxy:3129/', bypass });
    for (const url of direct) assert.is(findProxy(new URL(url)), null, url);
    for (const url of proxied) {
      const port = url.startsWith('https') ? '3128' : '3129';
      assert.is(findProxy(new URL(url))?.href, `http://proxy:${port}/`, url);
    }
  });
}

test('this machine is never reached through a proxy, and a scheme has its own', () => {
  const findProxy = proxiesOf({ https: 'https://proxy/' });
  for (const url of ['https://localhost/', 'https://127.0.0.2:1/', 'https://[::1]/']) {
    assert.is(findProxy(new URL(url)), null, url);
  }
  assert.is(findProxy(new URL('http://example.com/')), null);
  assert.is(findProxy(new URL('https://example.com/'))?.href, 'https://proxy/');
});

test('an invalid proxy is an error that does not quote it', () => {
  for (const value of ['socks5://u:secret@proxy', 'http://', 'http://a b/', 'http://proxy/secret',
    'http://proxy/?secret', 'http://secret%zz@proxy/']) {
    const parsed = parseProxies({ https: value, http: value, bypass: undefined });
    const errors = 'errors' in parsed ? parsed.errors : [];
    assert.equal(errors.map((error) => error.slice(0, error.indexOf(' '))),
      ['HTTPS_PROXY', 'HTTP_PROXY'], value);
    assert.not.match(errors.join(), 'secret');
  }
});

test.after(endAll);
test.run();
