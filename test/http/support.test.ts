/** Support on the admin listener: its paths, API keys, users and log (docs/support.md). */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccessRecord } from '../../src/http/access-log.ts';
import { newKey } from '../../src/http/input/api-keys.ts';
import { newApiClients } from '../harness/api-clients.ts';
import { recordKey } from '../harness/leak-recorder.ts';
import { OTP_ID, startAdminServer, stopServers, SUPPORT_PAGE } from './fake-service.ts';
import { exchange } from './raw-client.ts';

const { apiKeys, headersOf } = newApiClients(['desk', 'app'],
  (name) => (name === 'desk' ? ['admin'] : ['request', 'verify', 'read', 'to']));

test.after.each(stopServers);

function bytes(line: string, headers: Record<string, string>, body: string | null): string {
  const content = body === null ? {}
    : { 'Content-Type': 'application/json', 'Content-Length': body.length };
  const all = { Host: 'localhost', ...headers, ...content };
  const head = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`).join('');
  return `${line} HTTP/1.1\r\n${head}\r\n${body ?? ''}`;
}

type Asked = Readonly<{ status: number; body: string }>;

/** A server that records the calls of its operations, and what it logs. */
async function startSupport(keys = apiKeys) {
  const calls: unknown[][] = [];
  const records: AccessRecord[] = [];
  const note = (name: string, outcome: 'unknown' | 'not_locked') =>
    async (...values: unknown[]) => {
      calls.push([name, ...values]);
      return { data: { outcome, user_id: 'u', purposes: [] } };
    };
  const { port } = await startAdminServer({
    apiKeys: keys, onRecord: (record) => records.push(record),
    support: {
      show: note('show', 'unknown'),
      unlock: async (user, purpose) => {
        const isKnown = purpose !== 'unknown';
        return note('unlock', isKnown ? 'not_locked' : 'unknown')(user, purpose);
      },
    },
  });
  const ask = async (
    line: string,
    body: string | null = null,
    headers: Record<string, string> = headersOf('desk'),
  ): Promise<Asked> => exchange(port, bytes(line, headers, body));
  return { ask, calls, records };
}

test('without API keys the paths of support do not exist', async () => {
  const { port } = await startAdminServer();
  for (const line of ['GET /support', 'GET /users/u', 'POST /users/u/unlock',
    'POST /users/u/revoke', `DELETE /otp/${OTP_ID}`]) {
    const got = await exchange(port, bytes(line, headersOf('desk'), null));
    assert.is(got.status, 404, line);
    assert.match(got.body, 'the paths are /livez, /readyz and /metrics"');
  }
  const head = bytes('HEAD /users/u', headersOf('desk'), null);
  assert.is((await exchange(port, head, { noBody: true })).status, 404);
});

test('a user_id is percent-encoded UTF-8, byte for byte', async () => {
  const { ask, calls } = await startSupport();
  for (const user of ['U1', 'u1 ', 'ú1', 'a/b', '/unlock', '%', '..', '+49', '💬', 'a?b#c']) {
    calls.length = 0;
    const path = encodeURIComponent(user).replaceAll('.', '%2E');
    assert.is((await ask(`GET /users/${path}`)).status, 404);
    assert.is((await ask(`POST /users/${path}/unlock`, '{}')).status, 200);
    assert.equal(calls, [['show', user], ['unlock', user, null]]);
  }
  for (const path of ['%', '%C3', '%FF', '%00', '%0A', 'x'.repeat(256), '%ED%A0%80']) {
    const got = await ask(`GET /users/${path}`);
    assert.is(got.status, 400, path);
    assert.match(got.body, '"field":"user_id"');
  }
  for (const path of ['/users', '/users/', '/users/u/', '/users/u/x', '/users/a/b/unlock']) {
    const got = await ask(`GET ${path}`);
    assert.is(got.status, 404, path);
    assert.match(got.body, '"error":"not_found","message":"the paths are /livez, ');
  }
});

test('a purpose and a device are checked, and nothing else is taken', async () => {
  const { ask, calls } = await startSupport();
  await ask('POST /users/u/unlock', '{"purpose":"login"}');
  assert.equal(calls, [['unlock', 'u', 'login']]);
  const unknown = await ask('POST /users/u/unlock', '{"purpose":"unknown"}');
  assert.equal([unknown.status, unknown.body], [404, '{"error":"user_not_found"}']);
  calls.pop();
  assert.is((await ask('POST /users/u/revoke', '{"device":"6af9b8120107f8d5"}')).status, 200);
  for (const [path, body, field] of [
    ['unlock', '{"purpose":null}', 'purpose'], ['unlock', '{"purpose":""}', 'purpose'],
    ['unlock', '{"device":"6af9b8120107f8d5"}', 'device'], ['unlock', '[]', 'body'],
    ['unlock', '', 'body'], ['revoke', '{"device":null}', 'device'],
    ['revoke', '{"device":"6AF9B8120107F8D5"}', 'device'], ['revoke', '{"user_id":"u"}', 'user_id'],
  ] as const) {
    const got = await ask(`POST /users/u/${path}`, body);
    assert.is(got.status, 400, body);
    assert.match(got.body, `"field":"${field}"`);
  }
  assert.is(calls.length, 1);
});

test('only a key with the scope admin is served, and one with purposes unlocks those', async () => {
  const { key, entry } = newKey({ name: 'narrow', scopes: ['admin'] }, ['purposes=login']);
  recordKey(key);
  const { ask, calls, records } = await startSupport(`${apiKeys},${entry}`);
  const narrow = { Authorization: `Bearer ${key}` };
  for (const [line, body] of [['GET /users/u', null], ['POST /users/u/unlock', '{}'],
    ['POST /users/u/revoke', '{}'], ['POST /users/u/unlock', '{"purpose":"pay"}']] as const) {
    assert.is((await ask(line, body, {})).status, 401);
    assert.is((await ask(line, body, headersOf('app'))).status, 403);
    assert.is((await ask(line, body, narrow)).status, 403, line);
  }
  assert.equal(calls, []);
  assert.is((await ask('POST /users/u/unlock', '{"purpose":"login"}', narrow)).status, 200);
  assert.is((await ask(`DELETE /otp/${OTP_ID}`, null, headersOf('app'))).status, 204);
  assert.equal(records.map(({ code }) => code), [
    ...Array.from({ length: 4 }, () => ['unauthorized', 'forbidden', 'forbidden']).flat(),
    'not_locked', 'canceled']);
});

test('every request of support is logged with its API client, and no probe is', async () => {
  const { ask, records } = await startSupport();
  for (const path of ['/livez', '/readyz', '/metrics', '/support', '/x']) await ask(`GET ${path}`);
  assert.equal(records, []);
  await ask('GET /users/a%20b');
  await ask('POST /users/u/unlock', '{"purpose":"login"}');
  await ask('POST /users/u/revoke', '{}');
  await ask('POST /users/u/revoke', '{"device":"6af9b8120107f8d5"}');
  assert.equal(records.map(({ route, code, apiClient, context }) =>
    [route, code, apiClient, context]), [
    ['/users/{user_id}', 'user_not_found', 'desk', { userId: 'a b' }],
    ['/users/{user_id}/unlock', 'not_locked', 'desk', { userId: 'u', purpose: 'login' }],
    ['/users/{user_id}/revoke', 'revoked', 'desk', { userId: 'u' }],
    ['/users/{user_id}/revoke', 'revoked', 'desk', { userId: 'u', device: '6af9b8120107f8d5' }],
  ]);
});

test('the page needs no key, and may run its own script only', async () => {
  const { port } = await startAdminServer({ apiKeys });
  const page = await exchange(port, bytes('GET /support', {}, null));
  assert.is(page.status, 200);
  assert.is(Buffer.from(page.body, 'latin1').toString(), SUPPORT_PAGE.toString());
  assert.is(page.headers.get('content-type'), 'text/html; charset=utf-8');
  const policy = page.headers.get('content-security-policy')!;
  assert.match(policy, /^default-src 'none'; script-src 'sha256-[^ ]+'; style-src 'sha256-/);
  assert.match(policy, "frame-ancestors 'none'");
  assert.not.match(policy, /unsafe|\*/);
});

test.run();
