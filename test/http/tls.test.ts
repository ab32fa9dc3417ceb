/** TLS: the bounds of the handshake, the lowest version, and replacing the certificate. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { once } from 'node:events';
import type { TLSSocket } from 'node:tls';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createHttpMeters } from '../../src/http/metrics.ts';
import { createCertificate } from '../harness/certificate.ts';
import { eventually, promptly } from '../harness/waiting.ts';
import { startServer, stopServers } from './fake-service.ts';
import { openClient, post } from './raw-client.ts';
import { connectTo, speakTls } from './transport.ts';

const REQUEST = post('/otp/request', '{"user_id":"u","purpose":"p"}');
const SHORT = { headersTimeoutMs: 200, checkIntervalMs: 20 };

speakTls();

/** Opens a connection without TLS; `closed` resolves even if it closes before a test waits. */
async function openPlain(port: number): Promise<{ socket: Socket; closed: Promise<unknown> }> {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.on('error', () => {});
  const closed = new Promise((resolve) => { socket.once('close', resolve); });
  await once(socket, 'connect');
  return { socket, closed };
}

/** Resolves with the version and protocol of a handshake, or with its error code. */
async function shake(port: number, options: Parameters<typeof connectTo>[1]): Promise<string> {
  const { socket, connected } = connectTo(port, options);
  return new Promise((resolve) => {
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
    socket.once(connected, () => {
      const { alpnProtocol } = socket as TLSSocket;
      resolve(`${(socket as TLSSocket).getProtocol()} ${alpnProtocol}`);
      socket.destroy();
    });
  });
}

test('a handshake accepts TLS 1.2, TLS 1.3 and HTTP/1.1 only', async () => {
  const { port } = await startServer();
  assert.is(await shake(port, {}), 'TLSv1.3 false');
  assert.is(await shake(port, { maxVersion: 'TLSv1.2' }), 'TLSv1.2 false');
  const both = ['h2', 'http/1.1'];
  assert.is(await shake(port, { ALPNProtocols: both }), 'TLSv1.3 http/1.1');
  assert.match(await shake(port, { ALPNProtocols: ['h2'] }), /NO_APPLICATION_PROTOCOL/);
  // Security level 0 lets this client offer the versions that the server must refuse.
  const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' } as const;
  assert.match(await shake(port, old), /PROTOCOL_VERSION/);
});

test('a client that does not complete the handshake is closed in time', async () => {
  const { port } = await startServer({ limits: SHORT });
  const silent = await openPlain(port);
  const slow = await openPlain(port);
  // The beginning of a handshake record (RFC 8446, 5.1), byte by byte.
  const hello = Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, ...Buffer.alloc(500)]);
  let at = 0;
  const drip = setInterval(() => {
    if (!slow.socket.destroyed) slow.socket.write(hello.subarray(at, at += 1));
  }, 10);
  await promptly(() => Promise.all([silent.closed, slow.closed])).finally(() => {
    clearInterval(drip);
  });
});

test('plain HTTP on the TLS port is closed without a response and not counted', async () => {
  const meters = createHttpMeters(() => 0);
  const { port, requests, errors } = await startServer({ meters });
  const plain = await openPlain(port);
  let answer = '';
  plain.socket.on('data', (chunk: Buffer) => { answer += chunk.toString('latin1'); });
  plain.socket.write(REQUEST);
  await plain.closed;
  assert.is(answer, '');
  assert.equal([requests, errors], [[], []]);
  assert.ok(Object.values(meters.other.responses).every((count) => count === 0));
});

test('a handshake in progress does not delay close', async () => {
  const { port, http } = await startServer();
  const silent = await openPlain(port);
  const begun = await openPlain(port);
  begun.socket.write(Buffer.from([22, 3, 1]));
  const client = await openClient(port);
  client.send(REQUEST);
  assert.is((await client.readResponse()).status, 201);
  client.destroy();
  await promptly(() => http.close(60_000));
  await Promise.all([silent.closed, begun.closed]);
});

test('a handshake counts as a connection until it ends', async () => {
  // The handshake must outlast the connection of the next client.
  const limits = { ...SHORT, headersTimeoutMs: 2000, connectionsMax: 1 };
  const { port } = await startServer({ limits });
  const silent = await openPlain(port);
  const refused = await openClient(port);
  assert.is(await refused.ended(), '');
  await silent.closed;
  const client = await openClient(port);
  client.send(REQUEST);
  assert.is((await client.readResponse()).status, 201);
  client.destroy();
});

test('the connections of one peer are bounded, handshakes included', async () => {
  const { port } = await startServer({ limits: { connectionsPerPeerMax: 2 } });
  const silent = await openPlain(port);
  const client = await openClient(port);
  const refused = connect({ port, host: '127.0.0.1' });
  const [error] = await once(refused, 'error') as [NodeJS.ErrnoException];
  assert.is(error.code, 'ECONNRESET');
  client.send(REQUEST);
  assert.is((await client.readResponse()).status, 201);
  for (const each of [silent.socket, client]) each.destroy();
  await silent.closed;
  await eventually('there is room again', async () => {
    const { socket, connected } = connectTo(port);
    socket.on('error', () => {});
    const isOpen = await Promise.race([
      once(socket, connected).then(() => true), once(socket, 'close').then(() => false),
    ]).catch(() => false);
    socket.destroy();
    return isOpen;
  });
});

test('a new certificate serves new connections, and an unusable one changes nothing',
  async () => {
    const { port, http } = await startServer();
    const serialOf = ({ socket }: { socket: Socket }): string =>
      (socket as TLSSocket).getPeerCertificate().serialNumber;
    const old = await openClient(port);
    const next = createCertificate({ serial: '0b' });
    http.setCertificate(next);
    const { socket, connected } = connectTo(port, { ca: next.cert });
    await once(socket, connected);
    assert.equal([serialOf(old), serialOf({ socket })], ['01', '0B']);
    old.send(REQUEST);
    assert.is((await old.readResponse()).status, 201);
    assert.throws(() => http.setCertificate({ ...next, cert: 'none' }));
    const { socket: again } = connectTo(port, { ca: next.cert });
    await once(again, connected);
    assert.is(serialOf({ socket: again }), '0B');
    for (const each of [old, socket, again]) each.destroy();
  });

test.after(stopServers);
test.run();
