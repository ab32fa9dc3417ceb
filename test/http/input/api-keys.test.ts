/** API keys: reading the header, granting access, and the client IP of an API client. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import fc from 'fast-check';
import {
  authorize, LiveApiKeys, parseBearerKey, newKey, parseApiKeys, SCOPES,
} from '../../../src/http/input/api-keys.ts';
import type { Scope } from '../../../src/http/input/api-keys.ts';
import { clientIpFromHeader } from '../../../src/http/input/client-ip.ts';
import type { CancelOutcome, OtpCancellation } from '../../../src/otp/outcomes.ts';
import { ISSUED, LIMITS, OTP_ID, startServer, stopServers } from '../fake-service.ts';
import { exchange, openClient, post } from '../raw-client.ts';
import type { RawResponse } from '../raw-client.ts';

const REQUEST = '{"user_id":"u","purpose":"p"}';
const VERIFY = '{"user_id":"u","purpose":"p","code":"123456"}';
const CREATED = `{"otp_id":"${OTP_ID}","ttl":300,"remaining_requests":2}`;
const UNAUTHORIZED = '{"error":"unauthorized"}';
const FORBIDDEN = '{"error":"forbidden"}';

const ALL = newKey({ name: 'app1', scopes: SCOPES });
const OTHER = newKey({ name: 'app-2_x', scopes: ['request'] });
const API_KEYS = `${ALL.entry}, ${OTHER.entry}`;
const BEARER = `Bearer ${ALL.key}`;

/** A POST with a key of every scope. */
function asApiClient(
  path: string,
  body: string,
  headers: Record<string, string | null> = {},
): string {
  return post(path, body, { Authorization: BEARER, ...headers });
}

function ask(method: string, lines = '', path = `/otp/${OTP_ID}`): string {
  return `${method} ${path} HTTP/1.1\r\nHost: a\r\n${lines}\r\n`;
}

function described({ status, body, headers }: RawResponse): string {
  return `${status} ${body} ${headers.get('www-authenticate') ?? '-'} ${headers.get('connection')}`;
}

const NO_KEY = `401 ${UNAUTHORIZED} Bearer`;
const UNKNOWN_KEY = `401 ${UNAUTHORIZED} Bearer error="invalid_token"`;
const NO_SCOPE = `403 ${FORBIDDEN} Bearer error="insufficient_scope"`;

test('the key of an Authorization field is read with the scheme in any letter case', () => {
  const token = 'otpd_A-z.0~9+/==';
  const good = [`Bearer ${token}`, `bearer ${token}`, `BEARER ${token}`, `bEaReR    ${token}`];
  for (const line of good) assert.is(parseBearerKey(line), token, line);
  const bad = ['', 'Bearer', 'Bearer ', token, `Bearer${token}`, `Bearer\t${token}`,
    ` Bearer ${token}`, `Bearer ${token} `, `Bearer ${token} x`, `Bearer ${token},`,
    `Bearer ${token}, Bearer ${token}`, `Bearer "${token}"`, `Bearer =`, 'Bearer ==a', 'Bearer a=b',
    `Basic ${token}`, `Token ${token}`, `Bearerx ${token}`, 'Bearer é', 'Bearer \u212a',
    'Bearer a\u0000', 'Bearer realm="x"', `Bearer: ${token}`, `Digest a=b, Bearer ${token}`];
  for (const line of bad) assert.is(parseBearerKey(line), null, line);
});

/** Quadratic time would take seconds. CPU time does not depend on what else the machine does. */
const CPU_MAX_MICROSECONDS = 100_000;

test('a long hostile field is read in linear time', () => {
  const rows = [`Bearer ${' '.repeat(100_000)}!`, `Bearer ${'a'.repeat(100_000)}!`,
    `Bearer ${'='.repeat(100_000)}!`, `Bearer ${'a='.repeat(50_000)}`,
    'Bearer '.repeat(15_000), `Bearer a${'='.repeat(100_000)}!`];
  for (const line of rows) {
    const start = process.cpuUsage();
    assert.is(parseBearerKey(line), null);
    assert.ok(process.cpuUsage(start).user < CPU_MAX_MICROSECONDS, line.slice(0, 12));
  }
});

test('property: only the exact key is accepted', () => {
  const { apiKeys } = parseApiKeys(API_KEYS);
  const outcomeOf = (line: string): unknown => {
    const found = authorize(apiKeys, [line], ['read']);
    return 'name' in found ? found.name : found.code;
  };
  assert.is(outcomeOf(BEARER), 'app1');
  fc.assert(fc.property(fc.string(), (text) => {
    if (text !== ALL.key) assert.is(outcomeOf(`Bearer ${text}`), 'unauthorized');
    assert.is(outcomeOf(`${text}${BEARER}`), text === '' ? 'app1' : 'unauthorized');
  }));
  for (let at = 0; at < ALL.key.length; at += 1) {
    const changed = `${ALL.key.slice(0, at)}${ALL.key[at] === 'a' ? 'b' : 'a'}`
      + ALL.key.slice(at + 1);
    assert.is(outcomeOf(`Bearer ${changed}`), 'unauthorized');
    assert.is(outcomeOf(`Bearer ${ALL.key.slice(0, at)}`), 'unauthorized');
  }
  for (const { entry } of [ALL, OTHER]) {
    assert.is(outcomeOf(`Bearer ${entry.split(':')[2]}`), 'unauthorized', 'a digest is no key');
  }
});

test('a new key has 32 random bytes and a valid entry', () => {
  const keys = Array.from({ length: 100 }, () => newKey({ name: 'a', scopes: ['read'] }));
  for (const { key, entry } of keys) {
    assert.match(key, /^otpd_[A-Za-z0-9_-]{43}$/);
    assert.is(Buffer.from(key.slice(5), 'base64url').length, 32);
    assert.match(entry, /^a:read:[0-9a-f]{64}$/);
    const { apiKeys, errors } = parseApiKeys(entry.toUpperCase().replace('A:READ', 'a:read'));
    assert.equal(errors, []);
    assert.equal(apiKeys.find(key), { name: 'a', scopes: ['read'], purposes: null, endsAt: null });
  }
  assert.is(new Set(keys.map(({ key }) => key)).size, keys.length);
});

const MALFORMED_RESTRICTIONS = ['', 'purposes=', 'purposes=a+', 'purposes=a+a', 'purposes=%',
  'purposes=%00', `purposes=${'a'.repeat(101)}`, 'Purposes=a', 'purposes=a:purposes=b',
  'purposes=:purposes=a', 'not-after=', 'not-after=2027-02-29', 'not-after=2027-1-1',
  'not-after=2027-01-01T00', 'not-after=2027-13-01', 'not-after=2027-01-01:not-after=2027-01-02',
  'purposes=a:not-after=', 'purposes=a:x', 'until=2027-01-01'];

test('an entry may restrict a key to purposes and to days, in any order', () => {
  const { key, entry } = newKey({ name: 'a', scopes: ['read'] });
  const restricted = (parts: string) => {
    const { apiKeys, errors } = parseApiKeys(`${entry}:${parts}`);
    assert.equal(errors, [], parts);
    const { purposes, endsAt } = apiKeys.find(key)!;
    return [purposes === null ? null : [...purposes], endsAt];
  };
  const end = Date.UTC(2027, 1, 1) * 1000;
  assert.equal(restricted('purposes=login+pay'), [['login', 'pay'], null]);
  assert.equal(restricted('not-after=2027-01-31'), [null, end]);
  assert.equal(restricted('not-after=2027-01-31:purposes=a%2Bb%2C%3A%20%C3%BC'),
    [['a+b,: ü'], end]);
  assert.equal(restricted(`purposes=${'😀'.repeat(100)}`), [['😀'.repeat(100)], null]);
});

test('entries are separated by commas or line ends, with comments between them', () => {
  const keys = ['a', 'b', 'c'].map((name) => newKey({ name, scopes: ['read'] }));
  const [a, b, c] = keys.map(({ entry }) => entry);
  const { apiKeys, errors } = parseApiKeys(`# mine\n${a},${b}\r\n\n  # theirs\n ${c} \n`);
  assert.equal(errors, []);
  assert.equal(keys.map(({ key }) => apiKeys.find(key)?.name), ['a', 'b', 'c']);
});

test('a key is unknown from the end of its last day on', () => {
  const { key, entry } = newKey({ name: 'a', scopes: ['read'] });
  let now = 0;
  const live = new LiveApiKeys(parseApiKeys(`${entry}:not-after=2027-01-31`).apiKeys, () => now);
  now = Date.UTC(2027, 1, 1) * 1000 - 1;
  assert.is(live.find(key)?.name, 'a');
  now += 1;
  assert.is(live.find(key), null);
  assert.equal(authorize(live, [`Bearer ${key}`], ['read']),
    authorize(live, ['Bearer unknown'], ['read']));
});

test('new API keys replace the old ones at once, and the difference is named', () => {
  const [a, b, c] = ['a', 'b', 'c'].map((name) => newKey({ name, scopes: ['read'] }));
  const parse = (...entries: string[]) => parseApiKeys(entries.join()).apiKeys;
  const live = new LiveApiKeys(parse(a!.entry, b!.entry), () => 0);
  assert.equal(live.replace(parse(`${b!.entry}:purposes=x`, c!.entry)),
    { added: ['c'], removed: ['a'], changed: ['b'] });
  assert.equal([a, b, c].map((each) => live.find(each!.key)?.name), [undefined, 'b', 'c']);
  assert.equal(live.replace(parse(c!.entry, `${b!.entry}:purposes=x`)),
    { added: [], removed: [], changed: [] });
});

test('a key for some purposes gets 403 for every other purpose on every route', async () => {
  const scopes: Scope[] = ['request', 'verify', 'read'];
  const [login, pay] = ['login', 'pay%2C2'].map((purpose, index) =>
    newKey({ name: `a${index}`, scopes }, [`purposes=other+${purpose}`]));
  const server = await startServer({ apiKeys: `${login!.entry},${pay!.entry}` });
  const asked = async (bytes: string, { key }: { key: string }): Promise<string> => {
    const line = `Authorization: Bearer ${key}\r\n`;
    return described(await exchange(server.port, bytes.replace('\r\n', `\r\n${line}`)));
  };
  const forbidden = `${NO_SCOPE} keep-alive`;
  const rows = [['login', login, pay], ['pay,2', pay, login]] as const;
  for (const [purpose, allowed, denied] of rows) {
    const request = post('/otp/request', JSON.stringify({ user_id: 'u', purpose }));
    const verify = post('/otp/verify', JSON.stringify({ user_id: 'u', purpose, code: '123456' }));
    assert.match(await asked(request, allowed!), /^201 /);
    assert.match(await asked(verify, allowed!), /^200 /);
    assert.is(await asked(request, denied!), forbidden);
    assert.is(await asked(verify, denied!), forbidden);
  }
  assert.equal([server.requests.length, server.verifications.length], [2, 2]);
  // The OTP that the fake service knows has the purpose login.
  assert.match(await asked(ask('GET'), login!), /^200 /);
  assert.is(await asked(ask('GET'), pay!), forbidden);
});

test('every error in API_KEYS is reported without quoting its text', () => {
  const digest = ALL.entry.split(':')[2]!;
  const shape = 'must be name:scopes:sha256';
  const scopes = 'must have scopes out of request, verify, read, admin, to, joined by +';
  const name = 'must have a name of 1 to 32 letters, digits, - or _';
  const hash = 'must have the SHA-256 of a key, in 64 hex digits';
  const parts = 'may have after the SHA-256 only purposes=PURPOSE+PURPOSE and'
    + ' not-after=YYYY-MM-DD, each once';
  const rows: [string, string[]][] = [
    ['', [shape]], [ALL.key, [shape]], [digest, [shape]], [`a:read`, [shape]],
    [`a:read:`, [shape]], [`a:read:${digest}:x`, [parts]],
    ...MALFORMED_RESTRICTIONS.map((text): [string, string[]] => [`a:read:${digest}:${text}`,
      [parts]]),
    [`:read:${digest}`, [name]], [`a b:read:${digest}`, [name]], [`é:read:${digest}`, [name]],
    [`${'a'.repeat(33)}:read:${digest}`, [name]],
    [`a::${digest}`, [scopes]], [`a:write:${digest}`, [scopes]], [`a:read+:${digest}`, [scopes]],
    [`a:read+read:${digest}`, [scopes]], [`a:Read:${digest}`, [scopes]],
    [`a:read verify:${digest}`, [scopes]], [`a:constructor:${digest}`, [scopes]],
    [`a:read:${digest.slice(1)}`, [hash]], [`a:read:${digest}0`, [hash]],
    [`a:read:${digest.slice(1)}g`, [hash]], [`a:read:${ALL.key}`, [hash]],
    [`a b:write:${ALL.key}`, [name, scopes, hash]],
  ];
  for (const [text, errors] of rows) {
    const parsed = parseApiKeys(text);
    assert.equal(parsed.errors, errors.map((error) => `entry 1 ${error}`), text);
    assert.is(parsed.apiKeys.find(ALL.key), null);
  }
  const { errors } = parseApiKeys([...rows.map(([text]) => text), API_KEYS,
    OTHER.entry.replace('app-2_x', 'c'), OTHER.entry.replace(/.{64}$/, digest.replace(/./g, '0')),
  ].join(','));
  assert.equal(errors.slice(-2), [`entry ${rows.length + 3} has the key of another`,
    `entry ${rows.length + 4} has the name of another`]);
  assert.is(errors.length, rows.flatMap(([, own]) => own).length + 2);
  assert.not.match(errors.join(), /[0-9a-f]{20}|otpd_/);
});

test('a request without a known key gets 401 and causes no operation', async () => {
  const server = await startServer({ apiKeys: API_KEYS });
  const lines: [string, string][] = [
    ['', NO_KEY], ['Authorization: \r\n', NO_KEY], ['Authorization: Bearer\r\n', NO_KEY],
    [`Authorization: ${ALL.key}\r\n`, NO_KEY], [`Authorization: Basic ${ALL.key}\r\n`, NO_KEY],
    [`Authorization: ${BEARER}\r\nAuthorization: ${BEARER}\r\n`, NO_KEY],
    [`Authorization: ${BEARER}\r\nauthorization: Basic x\r\n`, NO_KEY],
    [`Authorization: ${BEARER}, ${BEARER}\r\n`, NO_KEY], [`X-Authorization: ${BEARER}\r\n`, NO_KEY],
    [`Proxy-Authorization: ${BEARER}\r\n`, NO_KEY], [`Authorization:${BEARER}x\r\n`, UNKNOWN_KEY],
    ['Authorization: Bearer x\r\n', UNKNOWN_KEY],
    [`Authorization: Bearer ${ALL.entry.split(':')[2]}\r\n`, UNKNOWN_KEY],
    [`Authorization: Bearer ${ALL.key.toLowerCase()}\r\n`, UNKNOWN_KEY],
  ];
  for (const [line, expected] of lines) {
    for (const method of ['GET', 'DELETE']) {
      const got = await exchange(server.port, ask(method, line));
      assert.is(described(got), `${expected} keep-alive`, line);
    }
    for (const [path, body] of [['/otp/request', REQUEST], ['/otp/verify', VERIFY]] as const) {
      const bytes = post(path, body).replace('\r\n\r\n', `\r\n${line}\r\n`);
      assert.is(described(await exchange(server.port, bytes)), `${expected} keep-alive`, line);
    }
  }
  const inQuery = ask('GET', '', `/otp/${OTP_ID}?access_token=${ALL.key}`);
  assert.is(described(await exchange(server.port, inQuery)), `${NO_KEY} keep-alive`);
  const asTrailer = post('/otp/request', '', {
    'Content-Length': null, 'Transfer-Encoding': 'chunked', Trailer: 'Authorization',
  });
  const trailer = `${asTrailer}0\r\nAuthorization: ${BEARER}\r\n\r\n`;
  assert.match(described(await exchange(server.port, trailer)), NO_KEY);
  const { requests, verifications, calls, errors } = server;
  assert.equal([requests, verifications, calls, errors], [[], [], [], []]);
});

test('each scope grants its own operations', async () => {
  const keys = SCOPES.map((scope) => newKey({ name: scope, scopes: [scope] }));
  const { port } = await startServer({ apiKeys: keys.map(({ entry }) => entry).join(',') });
  const rows: [string, string, Scope[]][] = [
    ['request', post('/otp/request', REQUEST), ['request']],
    ['verify', post('/otp/verify', VERIFY), ['verify']],
    ['read', ask('GET'), ['read']],
    ['cancel', ask('DELETE'), ['request', 'admin']],
  ];
  for (const [what, bytes, allowed] of rows) {
    for (const [index, scope] of SCOPES.entries()) {
      const line = `Authorization: Bearer ${keys[index]!.key}`;
      const got = await exchange(port, bytes.replace('\r\n', `\r\n${line}\r\n`));
      if (allowed.includes(scope)) assert.ok(got.status < 300, `${what} by ${scope}`);
      else assert.is(described(got), `${NO_SCOPE} keep-alive`, `${what} by ${scope}`);
    }
  }
  const head = ask('HEAD', `Authorization: Bearer ${keys[0]!.key}\r\n`);
  const got = await exchange(port, head, { noBody: true });
  assert.is(`${got.status} ${got.body}`, '403 ');
});

test('an API client cancels in its own name, unless it has the scope admin', async () => {
  const cancelers: (string | null)[] = [];
  const cancel = async ({ apiClient }: OtpCancellation): Promise<CancelOutcome> => {
    cancelers.push(apiClient);
    return { kind: 'forbidden' };
  };
  const scopes: Scope[][] = [['request'], ['admin'], ['request', 'admin']];
  const keys = scopes.map((list, index) => newKey({ name: `app${index}`, scopes: list }));
  const apiKeys = keys.map(({ entry }) => entry).join(',');
  const { port } = await startServer({ apiKeys, cancel });
  for (const { key } of keys) {
    const got = await exchange(port, ask('DELETE', `Authorization: Bearer ${key}\r\n`));
    assert.is(described(got), `${NO_SCOPE} keep-alive`);
  }
  await exchange((await startServer({ cancel })).port, ask('DELETE'));
  assert.equal(cancelers, ['app0', null, null, null]);
});

test('the first check that fails decides the response', async () => {
  const { port, requests } = await startServer({ apiKeys: API_KEYS });
  const none: [string, string | RegExp][] = [
    [ask('GET', 'Host: b\r\n'), '400 {"error":"invalid_request"} - close'],
    [ask('GET', '', '/'), /^404 {"error":"not_found","message":"the paths are .*"} - keep-alive$/],
    [ask('PUT'),
      '405 {"error":"method_not_allowed","message":"use GET, HEAD or DELETE"} - keep-alive'],
    [ask('OPTIONS', '', '/otp/request'),
      '405 {"error":"method_not_allowed","message":"use POST"} - keep-alive'],
    [ask('GET', 'Expect: x\r\n'), `${NO_KEY} keep-alive`],
    [ask('GET', 'X-Client-IP: x\r\n'), `${NO_KEY} keep-alive`],
    [post('/otp/request', REQUEST, { 'Content-Type': 'text/plain' }), `${NO_KEY} keep-alive`],
    [post('/otp/request', '{'), `${NO_KEY} keep-alive`],
  ];
  for (const [bytes, expected] of none) {
    const got = described(await exchange(port, bytes));
    if (typeof expected === 'string') assert.is(got, expected, bytes);
    else assert.match(got, expected, bytes);
  }
  const known: [string, string][] = [
    [asApiClient('/otp/request', REQUEST, { Expect: 'x' }), '417 {"error":"expectation_failed"}'],
    [asApiClient('/otp/request', REQUEST, { 'Content-Type': 'a/b', 'X-Client-IP': 'x' }),
      '415 {"error":"unsupported_media_type",'
      + '"message":"send Content-Type: application/json, once and in UTF-8"}'],
    [asApiClient('/otp/request', ' '.repeat(4097), { 'X-Client-IP': 'x' }),
      '413 {"error":"payload_too_large"}'],
    [asApiClient('/otp/request', '{', { 'X-Client-IP': 'x', 'Idempotency-Key': '' }),
      '400 {"error":"invalid_request","field":"X-Client-IP",'
      + '"message":"must be one IPv4 or IPv6 address"}'],
    [asApiClient('/otp/request', '{', { 'Idempotency-Key': '' }),
      '400 {"error":"invalid_request","field":"body","message":"must be a JSON object"}'],
  ];
  for (const [bytes, expected] of known) {
    const { status, body } = await exchange(port, bytes);
    assert.is(`${status} ${body}`, expected, bytes);
  }
  assert.equal(requests, []);
});

test('an unauthenticated body is bounded and is never parsed as a request', async () => {
  const { port, calls, requests } = await startServer({ apiKeys: API_KEYS });
  const bait = ask('DELETE', `Authorization: ${BEARER}\r\n`);
  const known = ask('GET', `Authorization: ${BEARER}\r\n`);
  const small = await openClient(port);
  small.send(post('/otp/request', bait) + known);
  assert.is(described(await small.readResponse()), `${NO_KEY} keep-alive`);
  assert.is((await small.readResponse()).status, 200);
  small.destroy();
  const chunked = { 'Content-Length': null, 'Transfer-Encoding': 'chunked' };
  const length = bait.length.toString(16);
  const rows = [
    post('/otp/request', '', { 'Content-Length': '99999999' }),
    post('/otp/request', '', { 'Content-Length': '4097' }),
    post('/otp/request', '', chunked),
    `${post('/otp/request', '', chunked)}${length}\r\n`,
    post('/otp/request', '', { 'Content-Length': '9', Expect: '100-continue' }),
  ];
  for (const bytes of rows) {
    const client = await openClient(port);
    client.send(bytes);
    // The response comes before any byte of the body.
    assert.is(described(await client.readResponse()), `${NO_KEY} close`, bytes);
    client.send(bait.repeat(3));
    await client.ended();
    client.destroy();
  }
  assert.equal([calls, requests], [[`status ${OTP_ID}`], []]);
});

test('the client IP is the one that the API client names, or none', async () => {
  const { port, requests, verifications } = await startServer({
    apiKeys: API_KEYS, trustedProxies: '127.0.0.0/8',
  });
  const rows: [named: string | null, counted: string | null, net48?: string][] = [
    [null, null], ['1.2.3.4', '1.2.3.4'], ['::ffff:1.2.3.4', '1.2.3.4'],
    ['::FFFF:102:304', '1.2.3.4'], ['2001:DB8::9', '2001:db8::/64', '2001:db8::/48'],
    ['  2001:db8:0:1:2:3:4:5  ', '2001:db8:0:1::/64', '2001:db8::/48'],
    ['0000:0000:0000:0000:0000:ffff:1.2.3.4', '1.2.3.4'], ['::', '::/64', '::/48'],
    ['2002:102:304::9', '1.2.3.4'], ['64:ff9b::1.2.3.4', '1.2.3.4'],
    ['2001::fefd:fcfb', '1.2.3.4'],
  ];
  for (const [named, counted, net48 = null] of rows) {
    const headers = { 'X-Forwarded-For': '9.9.9.9', 'X-Client-IP': named };
    assert.is((await exchange(port, asApiClient('/otp/request', REQUEST, headers))).status, 201);
    const { clientIp, clientNet48, apiClient } = requests.at(-1)!;
    assert.equal([clientIp, clientNet48, apiClient], [counted, net48, 'app1'], `${named}`);
  }
  const other = { Authorization: `bearer ${OTHER.key}`, 'X-Client-IP': '1.1.1.1' };
  await exchange(port, post('/otp/request', REQUEST, other));
  assert.is(requests.at(-1)?.apiClient, 'app-2_x');
  await exchange(port, asApiClient('/otp/verify', VERIFY, { 'X-Client-IP': '1.1.1.1' }));
  assert.equal(verifications.at(-1), {
    userId: 'u', purpose: 'p', code: '123456', otpId: null, clientIp: '1.1.1.1', clientNet48: null,
    key: 'k1', apiClient: 'app1', deviceTokens: '',
  });
  await exchange(port, asApiClient('/otp/verify', VERIFY, {}));
  assert.is(verifications.at(-1)?.clientIp, null);
});

test('a malformed client IP is refused on every route', async () => {
  const server = await startServer({ apiKeys: API_KEYS });
  const bad = ['', 'x', '1.2.3', '1.2.3.4.5', '01.2.3.4', '1.2.3.4, 1.2.3.4', '1.2.3.4,',
    '1.2.3.4:80', '[::1]', '::1%eth0', 'fe80::1%25eth0', '1.2.3.4/32', '2001:db8::/64',
    '1::2::3', 'localhost', '"1.2.3.4"', '0x7f.1', '2130706433', '1.2.3.4\t5',
    ':0'.repeat(5000), '1'.repeat(9000)];
  for (const value of bad) {
    assert.ok('field' in (clientIpFromHeader([value]) ?? {}), value);
    const lines = `X-Client-IP: ${value}\r\n`;
    await isRefused(lines, 'must be one IPv4 or IPv6 address');
  }
  await isRefused('X-Client-IP: 1.1.1.1\r\nX-Client-IP: 1.1.1.1\r\n', 'must be sent once');
  assert.equal([server.requests, server.verifications, server.calls], [[], [], []]);

  async function isRefused(lines: string, message: string): Promise<void> {
    const key = `Authorization: ${BEARER}\r\n`;
    const all = [ask('GET', key + lines), ask('DELETE', key + lines),
      ...[['/otp/request', REQUEST], ['/otp/verify', VERIFY]].map(([path, body]) =>
        asApiClient(path!, body!).replace('\r\n\r\n', `\r\n${lines}\r\n`))];
    for (const bytes of all) {
      const { status, body, headers } = await exchange(server.port, bytes);
      assert.is(status, 400, bytes);
      assert.equal(JSON.parse(body), { error: 'invalid_request', field: 'X-Client-IP', message });
      assert.is(headers.get('connection'), 'keep-alive');
    }
  }
});

test('a response without a client IP names the limit of the user alone', async () => {
  const limits = LIMITS.slice(0, 1);
  const { port } = await startServer({
    apiKeys: API_KEYS,
    request: async ({ clientIp }) => (clientIp === null ? { ...ISSUED, limits } : ISSUED),
  });
  const both = '"user";q=3;w=900, "ip";q=8;w=900';
  const user = '"user";q=3;w=900';
  const rows: [string, Record<string, string | null>, number][] = [
    [REQUEST, {}, 201], ['{', {}, 400], [REQUEST, { 'Idempotency-Key': null }, 400],
    [REQUEST, { 'Content-Type': 'a/b' }, 415], [' '.repeat(5000), {}, 413],
    [REQUEST, { Authorization: null }, 401], [REQUEST, { Authorization: 'Bearer x' }, 401],
  ];
  for (const [body, changes, status] of rows) {
    for (const named of [null, '1.1.1.1']) {
      const headers = { 'X-Client-IP': named, ...changes };
      const got = await exchange(port, asApiClient('/otp/request', body, headers));
      assert.is(got.status, status);
      assert.is(got.headers.get('ratelimit-policy'), named === null ? user : both, body);
    }
  }
  // As far as the client is known: an IPv6 client has a network, and a malformed address none.
  for (const [named, policy] of [['::1', `${both}, "net48";q=128;w=900`], ['x', user]] as const) {
    const headers = { 'X-Client-IP': named, 'Content-Type': 'a/b' };
    const got = await exchange(port, asApiClient('/otp/request', REQUEST, headers));
    assert.equal([got.status, got.headers.get('ratelimit-policy')], [415, policy]);
    assert.not.ok(got.headers.has('ratelimit'));
  }
  const without = await exchange(port, asApiClient('/otp/request', REQUEST));
  assert.is(without.body, CREATED);
  assert.is(without.headers.get('ratelimit'), '"user";r=2;t=900');
  const named = asApiClient('/otp/request', REQUEST, { 'X-Client-IP': '::1' });
  const withOne = await exchange(port, named);
  assert.is(withOne.headers.get('ratelimit'), '"user";r=2;t=900, "ip";r=7;t=900');
});

test('neither header changes a byte of a response without API_KEYS', async () => {
  const server = await startServer({ trustedProxies: '127.0.0.0/8' });
  const forwarded = { 'X-Request-Id': 'r-1', 'X-Forwarded-For': '7.7.7.7' };
  const rows = [
    post('/otp/request', REQUEST, forwarded), post('/otp/verify', VERIFY, forwarded),
    post('/otp/request', '{', forwarded), post('/otp/verify', '{}', forwarded),
    post('/otp/request', REQUEST, { ...forwarded, 'Content-Type': null }),
    post('/otp/request', ' '.repeat(5000), forwarded),
    post('/otp/none', REQUEST, forwarded), ask('GET', 'X-Request-Id: r-1\r\n'),
    ask('DELETE', 'X-Request-Id: r-1\r\n'), ask('PUT', 'X-Request-Id: r-1\r\n'),
    ask('GET', 'X-Request-Id: r-1\r\nExpect: x\r\n'),
  ];
  const extra = ['Authorization: \r\n', 'Authorization: Bearer x\r\n',
    `Authorization: ${BEARER}\r\n`,
    `Authorization: ${BEARER}\r\nAuthorization: ${BEARER}\r\n`, 'X-Client-IP: \r\n',
    'X-Client-IP: 8.8.8.8\r\n', 'X-Client-IP: x\r\nX-Client-IP: ::1\r\n',
    'Authorization: Basic x\r\nX-Client-IP: 8.8.8.8, 9.9.9.9\r\n'];
  const whole = ({ head, body }: RawResponse): string =>
    `${head.replace(/\r\nDate: [^\r]*/, '')}\n${body}`;
  for (const bytes of rows) {
    const before = whole(await exchange(server.port, bytes));
    for (const lines of extra) {
      const got = await exchange(server.port, bytes.replace('\r\n', `\r\n${lines}`));
      assert.is(whole(got), before, lines);
    }
  }
  assert.is(server.requests.length, 1 + extra.length);
  for (const { clientIp, apiClient } of server.requests) {
    assert.equal([clientIp, apiClient], ['7.7.7.7', null]);
  }
  for (const { apiClient: caller } of server.verifications) assert.is(caller, null);
});

test('no response and no error contains a key or its digest', async () => {
  const fail = (): Promise<never> => Promise.reject(new Error('broken'));
  const { port, errors } = await startServer({
    apiKeys: API_KEYS, request: fail, verify: fail, status: fail, cancel: fail,
  });
  const lines = `Authorization: ${BEARER}\r\n`;
  const unknown = newKey({ name: 'x', scopes: SCOPES });
  const all = [ask('GET', lines), ask('DELETE', lines), ask('PUT', lines),
    asApiClient('/otp/request', REQUEST), asApiClient('/otp/verify', VERIFY),
    asApiClient('/otp/verify', ALL.key),
    asApiClient('/otp/request', REQUEST, { 'X-Client-IP': ALL.key }),
    asApiClient('/otp/request', REQUEST, { Authorization: `Bearer ${unknown.key}` }),
    asApiClient('/otp/request', REQUEST, { Authorization: unknown.key })];
  let seen = '';
  for (const bytes of all) {
    const { head, body } = await exchange(port, bytes);
    seen += head + body;
  }
  for (const { requestId, route, error } of errors) seen += requestId + route + String(error);
  assert.is(errors.length, 4);
  for (const { key, entry } of [ALL, OTHER, unknown]) {
    assert.not.ok(seen.includes(key));
    assert.not.ok(seen.includes(entry.split(':')[2]!));
  }
});

test.after(stopServers);
test.run();
