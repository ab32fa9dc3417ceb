/** The bound of each peer, and what an operator should know about peers. */
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { eventually } from '../harness/waiting.ts';
import { startServer, stopServers } from './fake-service.ts';
import type { FakeOptions } from './fake-service.ts';
import { exchange, openClient } from './raw-client.ts';

/** Opens connections of one peer until the server resets one; resolves with all of them. */
async function openUntilReset(port: number, localAddress: string): Promise<Socket[]> {
  const sockets: Socket[] = [];
  let isReset = false;
  while (!isReset) {
    const socket = connect({ port, host: '127.0.0.1', localAddress });
    socket.on('error', ({ code }: NodeJS.ErrnoException) => { isReset = code === 'ECONNRESET'; });
    sockets.push(socket);
    await once(socket, 'connect').catch(() => {});
    // The server accepts connections in order, so it has accepted this one before it responds.
    await exchange(port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await exchange(port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  }
  return sockets;
}

test('a peer has a bound of its own, below that of all, unless it is a trusted proxy', async () => {
  const notices: string[] = [];
  const { port } = await startServer({
    limits: { connectionsPerPeerMax: 5 }, trustedProxies: '127.0.0.1',
    onNotice: (notice) => { notices.push(notice); },
  });
  const clients = await Promise.all(Array.from({ length: 20 }, () => openClient(port)));
  assert.equal(notices, [], '127.0.0.1 is a proxy');
  const sockets = await openUntilReset(port, '127.0.0.2');
  assert.is(sockets.length, 6);
  assert.equal(notices, ['peer_connections_refused']);
  const other = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.3' });
  other.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  assert.match(String(await once(other, 'data')), 'HTTP/1.1 404');
  sockets[0]!.destroy();
  await eventually('the peer has room again', async () => {
    const again = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.2' });
    again.on('error', () => {});
    again.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    const isAnswered = await Promise.race([
      once(again, 'data').then(() => true), once(again, 'close').then(() => false),
    ]).catch(() => false);
    again.destroy();
    return isAnswered;
  });
  for (const each of [...clients, ...sockets, other]) each.destroy();
});

test('a peer that forwards without being trusted is noticed once, and others are not', async () => {
  const ask = (lines: string): string => `GET / HTTP/1.1\r\nHost: a\r\n${lines}\r\n`;
  const noticesOf = async (options: FakeOptions): Promise<string[]> => {
    const notices: string[] = [];
    const onNotice = (notice: string): void => { notices.push(notice); };
    const { port } = await startServer({ ...options, onNotice });
    for (const lines of ['', 'X-Forwarded-For: 1.1.1.1\r\n', 'X-Forwarded-For: 1.1.1.2\r\n']) {
      await exchange(port, ask(lines));
    }
    return notices;
  };
  assert.equal(await noticesOf({}), ['proxy_not_trusted']);
  assert.equal(await noticesOf({ trustedProxies: '10.0.0.1' }), ['proxy_not_trusted']);
  assert.equal(await noticesOf({ trustedProxies: '127.0.0.1' }), []);
  assert.equal(await noticesOf({ apiKeys: `a:verify:${'0'.repeat(64)}` }), []);
  const notices: string[] = [];
  const { port } = await startServer({ onNotice: (notice) => { notices.push(notice); } });
  await exchange(port, ask('Forwarded: for=1.1.1.1\r\n'));
  assert.equal(notices, ['proxy_not_trusted']);
});

test.after(stopServers);
test.run();
