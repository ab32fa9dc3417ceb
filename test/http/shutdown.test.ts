/** Starting and stopping: requests in flight are answered, and new ones are not started. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { connect } from 'node:net';
import type { RequestOutcome } from '../../src/otp/outcomes.ts';
import { createGate, eventually } from '../harness/waiting.ts';
import { ISSUED, startServer, stopServers } from './fake-service.ts';
import { openClient, post } from './raw-client.ts';

const BODY = '{"user_id":"u","purpose":"p"}';
const REQUEST = post('/otp/request', BODY);

/** Resolves with the error code of a new connection, or `open`. */
function tryConnect(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => { socket.destroy(); resolve('open'); });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
  });
}

test('close answers requests in flight and accepts no new ones', async () => {
  const start = createGate<RequestOutcome>();
  const { http, port, requests } = await startServer({ request: () => start.promise });
  const client = await openClient(port);
  client.send(REQUEST + REQUEST);
  const idle = await openClient(port);
  idle.send(post('/', ''));
  assert.is((await idle.readResponse()).status, 404);
  const silent = await openClient(port);
  const partial = await openClient(port);
  partial.send(REQUEST.slice(0, 30));
  await eventually('it runs', () => requests.length === 1);
  // A response to a later request proves that the server has read the bytes before close.
  const probe = await openClient(port);
  probe.send(post('/', ''));
  await probe.readResponse();

  const closed = http.close(60_000);
  assert.is(await tryConnect(port), 'ECONNREFUSED');
  assert.is(await idle.ended(), '');
  assert.is(await silent.ended(), '');
  partial.send(REQUEST.slice(30));
  const refused = await partial.readResponse();
  assert.is(`${refused.status} ${refused.body}`, '503 {"error":"unavailable"}');
  assert.is(refused.headers.get('retry-after'), '1');
  assert.is(refused.headers.get('connection'), 'close');

  start.open(ISSUED);
  const first = await client.readResponse();
  assert.is(`${first.status} ${first.headers.get('connection')}`, '201 keep-alive');
  const last = await client.readResponse();
  assert.is(`${last.status} ${last.headers.get('connection')}`, '201 close');
  assert.is(await client.ended(), '');
  for (const each of [client, idle, silent, partial, probe]) each.destroy();
  await closed;
  assert.is(requests.length, 2);
});

test('a request pipelined during close gets 503 after the response before it', async () => {
  const start = createGate<RequestOutcome>();
  const { http, port, requests } = await startServer({ request: () => start.promise });
  const client = await openClient(port);
  client.send(REQUEST);
  const probe = await openClient(port);
  probe.send(REQUEST.slice(0, 30));
  await eventually('it runs', () => requests.length === 1);
  const other = await openClient(port);
  other.send(post('/', ''));
  await other.readResponse();
  const closed = http.close(60_000);
  client.send(REQUEST);
  // The response comes after the server has read the second request of the client.
  probe.send(REQUEST.slice(30));
  assert.is((await probe.readResponse()).status, 503);
  start.open(ISSUED);
  assert.is((await client.readResponse()).status, 201);
  const got = await client.readResponse();
  assert.is(`${got.status} ${got.headers.get('connection')}`, '503 close');
  for (const each of [client, probe, other]) each.destroy();
  await closed;
  assert.is(requests.length, 1);
});

test('close resolves at its deadline although connections hang', async () => {
  const never = createGate<RequestOutcome>();
  const { http, port, requests } = await startServer({ request: () => never.promise });
  const client = await openClient(port);
  client.send(REQUEST);
  const tunnel = await openClient(port);
  tunnel.send('CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n');
  assert.is((await tunnel.readResponse()).status, 405);
  await eventually('it runs', () => requests.length === 1);
  const partial = await openClient(port);
  partial.send(REQUEST.slice(0, -1));
  const probe = await openClient(port);
  probe.send(post('/', ''));
  await probe.readResponse();
  assert.is(await http.close(50), false);
  assert.is(await client.ended(), '');
  assert.is(await partial.ended(), '');
  never.open(ISSUED);
  for (const each of [client, tunnel, partial, probe]) each.destroy();
});

test('an incomplete request does not count as unanswered', async () => {
  const { http, port } = await startServer();
  const partial = await openClient(port);
  partial.send(REQUEST.slice(0, -1));
  const probe = await openClient(port);
  probe.send(post('/', ''));
  await probe.readResponse();
  assert.is(await http.close(50), true);
  for (const each of [partial, probe]) each.destroy();
});

test('retire serves the open connections and closes each with its next response', async () => {
  const { http, port, requests } = await startServer();
  const idle = await openClient(port);
  idle.send(REQUEST);
  assert.is((await idle.readResponse()).headers.get('connection'), 'keep-alive');
  const silent = await openClient(port);
  const partial = await openClient(port);
  partial.send(REQUEST.slice(0, 30));
  const retired = http.retire(60_000);
  assert.is(await tryConnect(port), 'ECONNREFUSED');
  partial.send(REQUEST.slice(30));
  idle.send(REQUEST);
  silent.send(REQUEST);
  for (const client of [idle, silent, partial]) {
    const got = await client.readResponse();
    assert.is(`${got.status} ${got.headers.get('connection')}`, '201 close');
    assert.is(await client.ended(), '');
    client.destroy();
  }
  await retired;
  assert.is(requests.length, 4);
  assert.is(await http.close(60_000), true);
});

test('retire closes the idle connections after a second, and waits for the others', async () => {
  const { http, port } = await startServer();
  const idle = await openClient(port);
  idle.send(REQUEST);
  assert.is((await idle.readResponse()).status, 201);
  const silent = await openClient(port);
  const partial = await openClient(port);
  partial.send(REQUEST.slice(0, 30));
  const retired = http.retire(60_000);
  assert.is(await idle.ended(), '');
  assert.is(await silent.ended(), '');
  partial.send(REQUEST.slice(30));
  const got = await partial.readResponse();
  assert.is(`${got.status} ${got.headers.get('connection')}`, '201 close');
  for (const client of [idle, silent, partial]) client.destroy();
  await retired;
});

test('close reads what has arrived, and answers it', async () => {
  const { http, port } = await startServer();
  const idle = await openClient(port);
  idle.send(REQUEST);
  assert.is((await idle.readResponse()).status, 201);
  idle.send(REQUEST);
  // The bytes are in the kernel, and the server has not read them.
  await new Promise((resolve) => { idle.socket.write('', resolve); });
  const closed = http.close(60_000);
  const got = await idle.readResponse();
  assert.is(`${got.status} ${got.headers.get('connection')}`, '503 close');
  idle.destroy();
  await closed;
});

test('retire resolves at its deadline, and close then ends the idle connections', async () => {
  const { http, port } = await startServer();
  const idle = await openClient(port);
  idle.send(REQUEST);
  assert.is((await idle.readResponse()).status, 201);
  const silent = await openClient(port);
  await http.retire(50);
  const closed = http.close(60_000);
  assert.is(await idle.ended(), '');
  assert.is(await silent.ended(), '');
  for (const client of [idle, silent]) client.destroy();
  assert.is(await closed, true);
});

test('listen rejects with EADDRINUSE on a port in use', async () => {
  const { port } = await startServer();
  const other = await startServer();
  await other.http.close(0);
  try {
    await other.http.listen(port, '127.0.0.1');
    assert.unreachable();
  } catch (error) {
    assert.is((error as NodeJS.ErrnoException).code, 'EADDRINUSE');
  }
});

test.after(stopServers);
test.run();
