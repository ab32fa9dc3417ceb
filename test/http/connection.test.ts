/** Pipelined requests, the limit of requests, and clients that disconnect. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { RequestOutcome } from '../../src/otp/outcomes.ts';
import { createGate, eventually } from '../harness/waiting.ts';
import { ISSUED, startServer, stopServers } from './fake-service.ts';
import { exchange, openClient, post } from './raw-client.ts';
import type { RawClient } from './raw-client.ts';

const BODY = '{"user_id":"u","purpose":"p"}';
const VERIFY = '{"user_id":"u","purpose":"p","code":"123456"}';
const SHED = '503 {"error":"unavailable"} 1 close';
const UNFINISHED = post('/otp/request', BODY.slice(0, 9), { 'Content-Length': '29' });

function numbered(count: number): string {
  const one = (at: number): string => post('/otp/request', BODY, { 'Idempotency-Key': `k${at}` });
  return Array.from({ length: count }, (_, at) => one(at)).join('');
}

test('of 200 pipelined requests 17 are served in order and the rest is shed', async () => {
  let running = 0;
  let most = 0;
  const start = createGate<void>();
  const request = async ({ key }: { key: string }): Promise<RequestOutcome> => {
    running += 1;
    most = Math.max(most, running);
    await start.promise;
    running -= 1;
    return { ...ISSUED, otpId: key.slice(1).padStart(32, '0') };
  };
  const { port, requests } = await startServer({ request });
  const client = await openClient(port);
  client.send(numbered(200));
  await eventually('the first runs', () => running === 1);
  start.open();
  for (let at = 0; at < 17; at += 1) {
    const got = await client.readResponse();
    assert.is(got.status, 201);
    const { otp_id: otpId } = JSON.parse(got.body) as { otp_id: string };
    assert.is(Number(otpId), at);
  }
  const got = await client.readResponse();
  const { headers } = got;
  assert.is(`${got.status} ${got.body} ${headers.get('retry-after')} ${headers.get('connection')}`,
    SHED);
  assert.ok(headers.has('ratelimit-policy'));
  assert.is(await client.ended(), '');
  assert.is(most, 1);
  assert.is(requests.length, 17);
  client.destroy();
});

test('requests in one piece behind the first one that is shed are not parsed', async () => {
  let parsed = 0;
  const count = (): void => { parsed += 1; };
  subscribe('http.server.request.start', count);
  const start = createGate<RequestOutcome>();
  const { port } = await startServer({ request: () => start.promise });
  const client = await openClient(port);
  client.send(numbered(200));
  await eventually('one is shed', () => parsed >= 18);
  start.open(ISSUED);
  for (let at = 0; at < 17; at += 1) assert.is((await client.readResponse()).status, 201);
  assert.is((await client.readResponse()).status, 503);
  assert.is(await client.ended(), '');
  assert.is(parsed, 18);
  unsubscribe('http.server.request.start', count);
  client.destroy();
});

test('a connection serves thousands of requests', async () => {
  const { port } = await startServer();
  const client = await openClient(port);
  for (let round = 0; round < 200; round += 1) {
    client.send(numbered(10));
    for (let at = 0; at < 10; at += 1) assert.is((await client.readResponse()).status, 201);
  }
  client.destroy();
});

test('a request over the limit of requests gets 503 until a response makes room', async () => {
  const start = createGate<RequestOutcome>();
  const { port, requests } = await startServer({
    request: () => start.promise, limits: { requestsMax: 2 },
  });
  const clients = await Promise.all([1, 2, 3].map(() => openClient(port)));
  const [first, second, third] = clients as [RawClient, RawClient, RawClient];
  first.send(numbered(1));
  second.send(numbered(1));
  await eventually('two run', () => requests.length === 2);
  third.send(post('/otp/verify', VERIFY));
  const got = await third.readResponse();
  const { headers } = got;
  assert.is(`${got.status} ${got.body} ${headers.get('retry-after')} ${headers.get('connection')}`,
    SHED);
  start.open(ISSUED);
  assert.is((await first.readResponse()).status, 201);
  assert.is((await second.readResponse()).status, 201);
  first.send(numbered(1));
  assert.is((await first.readResponse()).status, 201);
  for (const client of clients) client.destroy();
});

test('a connection over the limit is closed', async () => {
  const { port } = await startServer({ limits: { connectionsMax: 1 } });
  const first = await openClient(port);
  first.send(numbered(1));
  assert.is((await first.readResponse()).status, 201);
  const second = await openClient(port);
  assert.is(await second.ended(), '');
  first.destroy();
});

test('malformed bytes are answered after the requests before them', async () => {
  const start = createGate<RequestOutcome>();
  const { port, requests } = await startServer({ request: () => start.promise });
  const client = await openClient(port);
  client.send(`${numbered(2)}GARBAGE\r\n\r\n`);
  await eventually('the first runs', () => requests.length === 1);
  start.open(ISSUED);
  assert.is((await client.readResponse()).status, 201);
  assert.is((await client.readResponse()).status, 201);
  const got = await client.readResponse();
  assert.is(`${got.status} ${got.body}`, '400 {"error":"invalid_request"}');
  assert.is(await client.ended(), '');
  client.destroy();
});

test('an error in the body of a waiting request decides the response to that request', async () => {
  const start = createGate<RequestOutcome>();
  const { port, requests } = await startServer({ request: () => start.promise });
  const client = await openClient(port);
  const chunks = { 'Content-Length': null, 'Transfer-Encoding': 'chunked' };
  client.send(`${numbered(1)}${post('/otp/request', '', chunks)}zz\r\n`);
  await eventually('the first runs', () => requests.length === 1);
  start.open(ISSUED);
  assert.is((await client.readResponse()).status, 201);
  const got = await client.readResponse();
  assert.is(`${got.status} ${got.headers.get('connection')}`, '400 close');
  assert.ok(got.headers.has('ratelimit-policy'));
  assert.is(await client.ended(), '');
  assert.is(requests.length, 1);
  client.destroy();
});

test('requests behind a malformed one are not served', async () => {
  const start = createGate<RequestOutcome>();
  const { port, requests } = await startServer({ request: () => start.promise });
  const client = await openClient(port);
  client.send(numbered(1) + post('/otp/request', BODY, { Host: 'a b' }) + numbered(3));
  await eventually('the first runs', () => requests.length === 1);
  start.open(ISSUED);
  assert.is((await client.readResponse()).status, 201);
  assert.is((await client.readResponse()).status, 400);
  assert.is(await client.ended(), '');
  assert.is(requests.length, 1);
  client.destroy();
});

test('HTTP/1.0 and Connection: close end the connection after the response', async () => {
  const { port } = await startServer();
  const close = post('/otp/request', BODY, { Connection: 'close' });
  const old = post('/otp/request', BODY).replace('HTTP/1.1', 'HTTP/1.0');
  for (const bytes of [close, old]) {
    const client = await openClient(port);
    client.send(bytes);
    assert.is((await client.readResponse()).status, 201);
    assert.is(await client.ended(), '');
    client.destroy();
  }
});

test('a client that disconnects before its body is complete causes no operation', async () => {
  const { port, requests } = await startServer();
  const leave = ['destroy', 'reset', 'end'] as const;
  for (const bytes of ['POST /otp', UNFINISHED.slice(0, 40), UNFINISHED]) {
    for (const way of leave) {
      const client = await openClient(port);
      client.send(bytes);
      await new Promise((resolve) => { client.socket.write('', resolve); });
      client[way]();
      await client.ended();
      client.destroy();
    }
  }
  const client = await openClient(port);
  client.send(numbered(1));
  assert.is((await client.readResponse()).status, 201);
  assert.is(requests.length, 1);
  client.destroy();
});

test('a client that disconnects while its request runs causes no error', async () => {
  for (const way of ['destroy', 'reset'] as const) {
    const start = createGate<RequestOutcome>();
    const { port, requests, errors, http } = await startServer({ request: () => start.promise });
    const client = await openClient(port);
    client.send(numbered(5));
    await eventually('it runs', () => requests.length === 1);
    client[way]();
    await client.gone();
    const other = await openClient(port);
    other.send(post('/otp/verify', VERIFY));
    assert.is((await other.readResponse()).status, 200);
    start.open(ISSUED);
    other.destroy();
    await http.close(60_000);
    // A client that has closed its side may still read, so only a reset drops what waits.
    if (way === 'reset') assert.is(requests.length, 1, 'the pipelined requests are dropped');
    assert.is(errors.length, 0);
  }
});

test('every whole request of a client that half-closes is answered before the close', async () => {
  const start = createGate<RequestOutcome>();
  const { port, requests } = await startServer({ request: () => start.promise });
  const running = await openClient(port);
  running.send(numbered(3));
  running.end();
  const verified = await openClient(port);
  verified.send(post('/otp/verify', VERIFY));
  verified.end();
  assert.is((await verified.readResponse()).status, 200);
  assert.is(await verified.gone(), '');
  await eventually('it runs', () => requests.length === 1);
  // The server has seen the end before it responds to this.
  await exchange(port, post('/otp/none', ''));
  start.open(ISSUED);
  for (const last of ['keep-alive', 'keep-alive', 'close']) {
    const { status, headers } = await running.readResponse();
    assert.is(`${status} ${headers.get('connection')}`, `201 ${last}`);
  }
  assert.is(await running.gone(), '');
  assert.is(requests.length, 3);
});

test('a half-closed connection whose last request is incomplete gets its whole ones answered',
  async () => {
    for (const rest of ['POST /otp', UNFINISHED]) {
      const { port, requests } = await startServer();
      const client = await openClient(port);
      client.send(numbered(2) + rest);
      client.end();
      for (const status of [201, 201, 400]) assert.is((await client.readResponse()).status, status);
      assert.is(await client.gone(), '');
      assert.is(requests.length, 2);
    }
  });

test('an idle connection that the client half-closes is closed', async () => {
  const { port } = await startServer();
  const client = await openClient(port);
  client.send(numbered(1));
  assert.is((await client.readResponse()).status, 201);
  client.end();
  assert.is(await client.gone(), '');
});

test('requests of disconnected clients stop counting toward the limit', async () => {
  let start = createGate<RequestOutcome>();
  const limits = { requestsMax: 3 };
  const { port, requests } = await startServer({ request: () => start.promise, limits });
  const waiting = post('/otp/request', '', { 'Content-Length': '29', Expect: '100-continue' });
  for (const bytes of [waiting, numbered(3), waiting, numbered(3), waiting]) {
    const client = await openClient(port);
    const before = requests.length;
    client.send(bytes);
    if (bytes === waiting) await client.readResponse();
    else await eventually('it runs', () => requests.length > before);
    client.reset();
    // The server has seen the reset before it responds to these.
    await exchange(port, post('/otp/none', ''));
    await exchange(port, post('/otp/none', ''));
    start.open(ISSUED);
    start = createGate<RequestOutcome>();
  }
  const client = await openClient(port);
  const before = requests.length;
  client.send(numbered(3));
  await eventually('it runs', () => requests.length > before);
  start.open(ISSUED);
  for (let at = 0; at < 3; at += 1) assert.is((await client.readResponse()).status, 201);
  client.destroy();
});

test('a client that disconnects with unread responses leaves the server running', async () => {
  const { port, requests } = await startServer();
  const client = await openClient(port);
  client.send(numbered(15));
  await eventually('some run', () => requests.length > 0);
  client.reset();
  const other = await openClient(port);
  other.send(numbered(1));
  assert.is((await other.readResponse()).status, 201);
  other.destroy();
});

test.after(stopServers);
test.run();
