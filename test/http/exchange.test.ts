/** One request and its response, without a server around them. */
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { respondTo, openExchange } from '../../src/http/exchange.ts';
import { parseTrustedProxies } from '../../src/http/input/client-ip.ts';
import { createHttpMeters } from '../../src/http/metrics.ts';
import { methodNotAllowed } from '../../src/http/response.ts';
import type { HttpResponse } from '../../src/http/response.ts';
import { createRoute } from '../../src/http/router.ts';

test('a socket without an address is a client that is gone: nothing runs', async () => {
  let runs = 0;
  const handle = (): Promise<HttpResponse> =>
    { runs += 1; return Promise.reject(new Error('run')); };
  const { now, other } = createHttpMeters();
  const method = { takesJson: true, scopes: ['request' as const], handle };
  const route = createRoute('/p', other, { POST: method });
  const connectNotAllowed = methodNotAllowed('POST');
  const routes = { fixed: new Map([['/p', route]]), otp: route, other, now, connectNotAllowed };
  const everybody = { find: () => ({ name: 'app1', scopes: ['request' as const] }) };
  const { proxies } = parseTrustedProxies('');
  for (const apiKeys of [null, everybody]) {
    const req = new IncomingMessage(new Socket());
    Object.assign(req, { method: 'POST', url: '/p', httpVersionMajor: 1, httpVersionMinor: 1 });
    req.rawHeaders = ['Host', 'a', 'Content-Type', 'application/json',
      'Authorization', 'Bearer x', 'X-Client-IP', '1.1.1.1'];
    req.push('{}');
    req.push(null);
    const opened = openExchange(req, new ServerResponse(req), routes);
    assert.is(await respondTo(opened, { apiKeys, proxies }), null);
  }
  assert.is(runs, 0);
});

test.run();
