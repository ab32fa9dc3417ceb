/** Slow and silent clients under short limits, and the limits in production. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { HTTP_LIMITS } from '../../src/http/server.ts';
import type { RequestOutcome } from '../../src/otp/outcomes.ts';
import { createGate, eventually, timed } from '../harness/waiting.ts';
import { ISSUED, OTP_ID, startServer, stopServers } from './fake-service.ts';
import { openClient, post } from './raw-client.ts';
import type { RawClient } from './raw-client.ts';

const BODY = '{"user_id":"u","purpose":"p"}';
const REQUEST = post('/otp/request', BODY);
const SHORT = { headersTimeoutMs: 500, requestTimeoutMs: 1000, checkIntervalMs: 20 };

/** Checks that the connection gets 408 and is closed. */
async function timedOut(client: RawClient): Promise<void> {
  const got = await client.readResponse();
  assert.is(`${got.status} ${got.body}`, '408 {"error":"request_timeout"}');
  assert.is(got.headers.get('connection'), 'close');
  assert.is(await client.ended(), '');
  client.destroy();
}

/** Sends one byte at a time, each within every time limit, until the connection ends. */
function drip(client: RawClient, bytes: string): void {
  let at = 0;
  const timer = setInterval(() => {
    if (at >= bytes.length || client.socket.destroyed) clearInterval(timer);
    else client.send(bytes[at++] as string);
  }, 20);
  client.socket.once('close', () => clearInterval(timer));
  client.socket.once('end', () => clearInterval(timer));
}

test('a silent socket, slow headers and a slow body get 408 and run nothing', async () => {
  const { port, requests } = await startServer({ limits: SHORT });
  const clients = await Promise.all([1, 2, 3, 4].map(() => openClient(port)));
  const [silent, headers, body, none] = clients as [RawClient, RawClient, RawClient, RawClient];
  drip(headers, REQUEST);
  body.send(post('/otp/request', '', { 'Content-Length': '1000' }));
  drip(body, BODY + ' '.repeat(500));
  none.send(REQUEST.slice(0, -1));
  await Promise.all([silent, headers, body, none].map(timedOut));
  assert.is(requests.length, 0);
});

test('an announced body that never arrives gets 408 although no route reads it', async () => {
  const { port, calls } = await startServer({ limits: SHORT });
  const framings = ['Content-Length: 5', 'Transfer-Encoding: chunked'];
  for (const line of framings) {
    const client = await openClient(port);
    client.send(`DELETE /otp/${OTP_ID} HTTP/1.1\r\nHost: a\r\n${line}\r\n\r\n`);
    await timedOut(client);
  }
  assert.equal(calls, []);
});

test('a time-out in the body has the headers of its route', async () => {
  const { port } = await startServer({ limits: SHORT });
  const client = await openClient(port);
  client.send(REQUEST.slice(0, -1));
  const got = await client.readResponse();
  assert.is(got.status, 408);
  assert.ok(got.headers.has('ratelimit-policy'));
  client.destroy();
});

test('a slow second request gets its 408 after the response to the first', async () => {
  const start = createGate<RequestOutcome>();
  const { port, requests } = await startServer({ request: () => start.promise, limits: SHORT });
  const client = await openClient(port);
  client.send(`${REQUEST}POST /otp/req`);
  await eventually('the first runs', () => requests.length === 1);
  const watch = await openClient(port);
  await timedOut(watch);
  start.open(ISSUED);
  assert.is((await client.readResponse()).status, 201);
  await timedOut(client);
});

test('a missing body of an answered request closes the connection without a second response',
  async () => {
    const { port } = await startServer({ limits: SHORT });
    const client = await openClient(port);
    client.send(post('/otp/none', '', { 'Content-Length': '10' }));
    assert.is((await client.readResponse()).status, 404);
    assert.is(await client.ended(), '');
    client.destroy();
  });

test('a request that takes long to answer does not time out', async () => {
  const start = createGate<RequestOutcome>();
  const { port, requests } = await startServer({ request: () => start.promise, limits: SHORT });
  const client = await openClient(port);
  client.send(REQUEST);
  await eventually('it runs', () => requests.length === 1);
  const body = await openClient(port);
  body.send(REQUEST.slice(0, -1));
  await timedOut(body);
  start.open(ISSUED);
  assert.is((await client.readResponse()).status, 201);
  client.destroy();
});

test('an idle connection is open for the time in Keep-Alive, and a second longer', async () => {
  const { port } = await startServer({ limits: { keepAliveTimeoutMs: 1000 } });
  const idle = await openClient(port);
  idle.send(REQUEST);
  const got = await idle.readResponse();
  const { ms } = await timed(() => idle.ended());
  assert.is(got.headers.get('keep-alive'), 'timeout=1');
  // The client counts from here; its request needs time to arrive.
  assert.ok(ms > 1500, `${ms} ms`);
  idle.destroy();
});

test('an idle connection is closed, a stalled one is destroyed', async () => {
  const { port } = await startServer({ limits: { keepAliveTimeoutMs: 1 } });
  const idle = await openClient(port);
  idle.send(REQUEST);
  assert.is((await idle.readResponse()).status, 201);
  assert.is(await idle.ended(), '');
  idle.destroy();
  const never = createGate<RequestOutcome>();
  const limits = { stalledTimeoutMs: 50 };
  const stuck = await startServer({ request: () => never.promise, limits });
  const client = await openClient(stuck.port);
  client.send(REQUEST);
  assert.is(await client.ended(), '');
  never.open(ISSUED);
  client.destroy();
});

test('the limits in production equal the documented ones', () => {
  assert.is(HTTP_LIMITS.headersTimeoutMs, 10_000);
  assert.is(HTTP_LIMITS.requestTimeoutMs, 15_000);
  assert.is(HTTP_LIMITS.keepAliveTimeoutMs, 75_000);
  assert.is(HTTP_LIMITS.connectionsPerPeerMax, 256);
  assert.is(HTTP_LIMITS.headersMaxBytes, 16_384);
  assert.ok(HTTP_LIMITS.checkIntervalMs <= 1000);
});

test.after(stopServers);
test.run();
