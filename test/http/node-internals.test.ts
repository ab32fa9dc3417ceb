/** The undocumented behaviour of node:http, one test for each function that relies on it. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerOptions, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  answerHalfClosed, bypassParser, createFinalResponse, onLastResponse, stopAccepting, stopParsing,
} from '../../src/http/node-internals.ts';
import { eventually } from '../harness/waiting.ts';
import { openClient as openRawClient } from './raw-client.ts';
import type { RawClient } from './raw-client.ts';

const REQUEST = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';

function openClient(port: number): Promise<RawClient> {
  return openRawClient(port, undefined, false);
}

type Listener = (req: IncomingMessage, res: ServerResponse) => void;

const servers: Server[] = [];

async function startNodeServer(
  listener: Listener,
  limits: ServerOptions = { keepAliveTimeout: 60_000 },
): Promise<{ server: Server; port: number }> {
  const server = createServer(limits, listener);
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port };
}

test('stopParsing ends the parsing of a piece before its next request', async () => {
  for (const [isStopped, expected] of [[false, 3], [true, 1]] as const) {
    let requests = 0;
    const { port } = await startNodeServer((req, res) => {
      requests += 1;
      if (isStopped) stopParsing(req.socket);
      res.end();
    });
    const client = await openClient(port);
    client.send(REQUEST.repeat(3));
    for (let at = 0; at < expected; at += 1) assert.is((await client.readResponse()).status, 200);
    assert.is(requests, expected);
    client.destroy();
  }
});

test('bypassParser gives later bytes to the listener, and none to the parser', async () => {
  let bytes = '';
  let requests = 0;
  let errors = 0;
  const { server, port } = await startNodeServer((req, res) => {
    requests += 1;
    bypassParser(req.socket, (chunk) => { bytes += chunk.toString(); });
    res.end();
  });
  server.on('clientError', () => { errors += 1; });
  const client = await openClient(port);
  client.send(REQUEST);
  assert.is((await client.readResponse()).status, 200);
  client.send(`${REQUEST}no request\r\n\r\n`);
  await eventually('the bytes arrive', () => bytes === `${REQUEST}no request\r\n\r\n`);
  assert.equal([requests, errors], [1, 0]);
  client.destroy();
});

test('onLastResponse replaces the close after a response with Connection: close', async () => {
  let closes = 0;
  const { port } = await startNodeServer((req, res) => {
    onLastResponse(req.socket, () => {
      closes += 1;
      req.socket.end('the end');
    });
    res.writeHead(200, ['Content-Length', '0', 'Connection', 'close']).end();
  });
  const client = await openClient(port);
  client.send(REQUEST);
  assert.is((await client.readResponse()).status, 200);
  assert.is(await client.ended(), 'the end');
  assert.is(closes, 1);
  client.destroy();
});

test('stopAccepting refuses connections, keeps idle ones, and calls back at the end', async () => {
  let isClosed = false;
  const { server, port } = await startNodeServer((_, res) => { res.end(); });
  const idle = await openClient(port);
  idle.send(REQUEST);
  assert.is((await idle.readResponse()).status, 200);
  stopAccepting(server, () => { isClosed = true; });
  const refused = await openClient(port);
  assert.is(await refused.gone(), 'ECONNREFUSED');
  idle.send(REQUEST);
  assert.is((await idle.readResponse()).status, 200);
  assert.is(isClosed, false);
  idle.destroy();
  await eventually('the last connection is gone', () => isClosed);
});

test('stopAccepting keeps the time limit of a header section in force', async () => {
  const limits = { headersTimeout: 100, connectionsCheckingInterval: 20 };
  const { server, port } = await startNodeServer((_, res) => { res.end(); }, limits);
  const accepted = once(server, 'connection');
  const client = await openClient(port);
  client.send(REQUEST.slice(0, 20));
  await accepted;
  stopAccepting(server, () => {});
  assert.is((await client.readResponse()).status, 408);
  client.destroy();
});

test('answerHalfClosed keeps a connection open until its request is answered', async () => {
  for (const [isKept, expected] of [[false, 'closed'], [true, '200']] as const) {
    let respond = (): void => {};
    const { server, port } = await startNodeServer((_, res) => { respond = () => res.end(); });
    if (isKept) answerHalfClosed(server);
    const ended = once(server, 'connection').then(([socket]) => once(socket as Socket, 'end'));
    const client = await openClient(port);
    client.send(REQUEST);
    client.end();
    await ended;
    respond();
    const got = await client.readResponse().then(({ status }) => String(status), () => 'closed');
    assert.is(got, expected);
    await client.gone();
  }
});

test('createFinalResponse writes a response to a socket without a request', async () => {
  const { server, port } = await startNodeServer(() => {});
  server.on('clientError', (_, stream) => {
    createFinalResponse(stream as Socket).writeHead(400, ['Content-Length', '2']).end('no');
  });
  const client = await openClient(port);
  client.send('no request\r\n\r\n');
  const got = await client.readResponse();
  assert.is(`${got.status} ${got.body}`, '400 no');
  assert.is(await client.ended(), '');
  client.destroy();
});

test('a body in one piece with its header section is readable one microtask later', async () => {
  const lengths: number[] = [];
  const { port } = await startNodeServer((req, res) => {
    void Promise.resolve().then(() => {
      lengths.push(req.readableLength);
      res.end();
    });
  });
  const client = await openClient(port);
  client.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello');
  assert.is((await client.readResponse()).status, 200);
  assert.equal(lengths, [5]);
  client.destroy();
});

test.after(() => {
  for (const server of servers) server.close();
  for (const server of servers) server.closeAllConnections();
});
test.run();
