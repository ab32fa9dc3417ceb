/** The response to every outcome of every route, byte for byte: status, headers and body. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Unavailable } from '../../src/db/errors.ts';
import type {
  CancelOutcome, Limits, RequestOutcome, OtpStatus, StatusOutcome, VerifyOutcome,
} from '../../src/otp/outcomes.ts';
import { createPolicies, DEFAULT_POLICY } from '../../src/otp/policy/policy.ts';
import type { LimitName } from '../../src/otp/policy/policy.ts';
import {
  ISSUED, KNOWN, KNOWN_BODY, LIMITS, OTP_ID, startServer, stopServers,
} from './fake-service.ts';
import { exchange, post } from './raw-client.ts';
import type { RawResponse } from './raw-client.ts';

const TOKEN = 'k1.avm4EgEH-NVpW2-ev-PwO6YmCmgmI8dZlSlVFw';

const REQUEST_BODY = '{"user_id":"u1","purpose":"login"}';
const VERIFY_BODY = '{"user_id":"u1","purpose":"login","code":"012345"}';
const POLICY = 'RateLimit-Policy: "user";q=3;w=900, "ip";q=8;w=900';
const LIMIT = 'RateLimit: "user";r=2;t=900, "ip";r=7;t=900';

/** The whole head of a response on a connection that stays open, except `Date`. */
function headOf(line: string, length: number, extra: readonly string[] = []): string {
  const content = ['Content-Type: application/json', `Content-Length: ${length}`];
  return [
    `HTTP/1.1 ${line}`, ...length === 0 ? [] : content, 'X-Request-Id: r-1',
    'Cache-Control: no-store', 'X-Content-Type-Options: nosniff',
    "Content-Security-Policy: frame-ancestors 'none'", ...extra,
    'Connection: keep-alive', 'Keep-Alive: timeout=75',
  ].join('\r\n');
}

function same(name: string, got: RawResponse, line: string, extra: string[], body: string): void {
  assert.is(got.body, body, name);
  assert.match(got.headers.get('date') as string, /^[A-Z][a-z]{2}, .* GMT$/);
  assert.is(got.head.replace(/\r\nDate: [^\r]*/, ''), headOf(line, body.length, extra), name);
}

const NOT_FOUND_BODY = '{"error":"otp_not_found"}';
const LOCKED_BODY = '{"error":"too_many_attempts","retry_after_seconds":600}';
const REUSED_BODY = '{"error":"idempotency_key_reused"}';

test('every outcome of /otp/request has its response', async () => {
  let outcome: RequestOutcome = ISSUED;
  const { port, requests } = await startServer({ request: async () => outcome });
  const limited = { retryAfterSeconds: 180, limits: LIMITS };
  const created = `{"otp_id":"${OTP_ID}","ttl":300,"remaining_requests":2}`;
  const rows: [RequestOutcome, string, string[], string][] = [
    [ISSUED, '201 Created', [POLICY, LIMIT], created],
    [{ ...ISSUED, replayed: true }, '201 Created',
      ['Idempotent-Replayed: true', POLICY, LIMIT], created],
    [{ kind: 'key_reused', limits: LIMITS }, '422 Unprocessable Entity', [POLICY, LIMIT],
      REUSED_BODY],
    [{ kind: 'locked', retryAfterSeconds: 600, limits: LIMITS }, '429 Too Many Requests',
      ['Retry-After: 600', POLICY, LIMIT], LOCKED_BODY],
    [{ kind: 'account_locked', limits: LIMITS }, '403 Forbidden', [POLICY, LIMIT],
      '{"error":"account_locked"}'],
    [{ kind: 'limited', ...limited, limitedBy: ['user'], shadowed: [] }, '429 Too Many Requests',
      ['Retry-After: 180', POLICY, LIMIT],
      '{"error":"rate_limit_exceeded","remaining_cooldown_seconds":180}'],
  ];
  for (const [given, line, extra, body] of rows) {
    outcome = given;
    const got = await exchange(port, post('/otp/request', REQUEST_BODY, { 'X-Request-Id': 'r-1' }));
    same(given.kind, got, line, extra, body);
  }
  assert.equal(requests[0], {
    userId: 'u1', purpose: 'login', clientIp: '127.0.0.1', clientNet48: null, key: 'k1',
    apiClient: null, acceptLanguage: '', to: null, channel: null, locale: null,
    deviceTokens: '',
  });
});

test('the RateLimit fields name every limit in force, and no other', async () => {
  let limits: Limits = [];
  const { port } = await startServer({
    request: async () => ({ kind: 'limited', retryAfterSeconds: 9, limits, limitedBy: [],
      shadowed: [] }),
  });
  const view = { quota: 5, remaining: 0, resetSeconds: 9 };
  const rows: [LimitName[], string | undefined, string | undefined][] = [
    [[], undefined, undefined],
    [['user', 'address'], '"user";q=5;w=900, "ip";q=5;w=900', '"user";r=0;t=9, "ip";r=0;t=9'],
    [['address'], '"ip";q=5;w=900', '"ip";r=0;t=9'],
    [['net48', 'recipient', 'user_daily', 'destination'],
      '"net48";q=5;w=900, "recipient";q=5;w=900, "user_daily";q=5;w=86400, '
        + '"destination";q=5;w=3600',
      '"net48";r=0;t=9, "recipient";r=0;t=9, "user_daily";r=0;t=9, "destination";r=0;t=9'],
  ];
  for (const [names, policy, left] of rows) {
    limits = names.map((limit) => ({ limit, ...view }));
    const { headers } = await exchange(port, post('/otp/request', REQUEST_BODY));
    assert.equal([headers.get('ratelimit-policy'), headers.get('ratelimit')], [policy, left]);
  }
});

test('every outcome of /otp/verify has its response', async () => {
  let outcome: VerifyOutcome = { kind: 'verified', replayed: false };
  const { port, verifications } = await startServer({ verify: async () => outcome });
  const success = '{"success":true,"message":"verification_successful"}';
  const rows: [VerifyOutcome, string, string[], string][] = [
    [{ kind: 'verified', replayed: false }, '200 OK', [], success],
    [{ kind: 'verified', replayed: true }, '200 OK', ['Idempotent-Replayed: true'], success],
    [{ kind: 'verified', replayed: false, deviceToken: TOKEN }, '200 OK', [`Otp-Device: ${TOKEN}`],
      success],
    [{ kind: 'verified', replayed: true, deviceToken: TOKEN }, '200 OK',
      ['Idempotent-Replayed: true', `Otp-Device: ${TOKEN}`], success],
    [{ kind: 'key_reused' }, '422 Unprocessable Entity', [], REUSED_BODY],
    [{ kind: 'limited', retryAfterSeconds: 180, limitedBy: ['wrong_codes'] },
      '429 Too Many Requests', ['Retry-After: 180'],
      '{"error":"rate_limit_exceeded","remaining_cooldown_seconds":180}'],
    [{ kind: 'locked', retryAfterSeconds: 600, begins: true }, '429 Too Many Requests',
      ['Retry-After: 600'],
      LOCKED_BODY],
    [{ kind: 'account_locked', begins: true }, '403 Forbidden', [], '{"error":"account_locked"}'],
    [{ kind: 'not_found' }, '404 Not Found', [], NOT_FOUND_BODY],
    [{ kind: 'superseded' }, '410 Gone', [], '{"error":"code_superseded"}'],
    [{ kind: 'used' }, '410 Gone', [], '{"error":"code_used"}'],
    [{ kind: 'expired' }, '410 Gone', [], '{"error":"code_expired"}'],
    [{ kind: 'wrong', attemptsRemaining: 2 }, '401 Unauthorized',
      ['WWW-Authenticate: OTP realm="otpd"'], '{"error":"invalid_code","attempts_remaining":2}'],
  ];
  for (const [given, line, extra, body] of rows) {
    outcome = given;
    const got = await exchange(port, post('/otp/verify', VERIFY_BODY, { 'X-Request-Id': 'r-1' }));
    same(given.kind, got, line, extra, body);
  }
  assert.equal(verifications[0], {
    userId: 'u1', purpose: 'login', code: '012345', otpId: null, clientIp: '127.0.0.1',
    clientNet48: null, key: 'k1', apiClient: null, deviceTokens: '',
  });
  await exchange(port, post('/otp/verify', VERIFY_BODY, { 'Idempotency-Key': null }));
  assert.is(verifications.at(-1)?.key, null);
});

/** A request for one OTP, without a body. */
function ask(method: string): string {
  return `${method} /otp/${OTP_ID} HTTP/1.1\r\nHost: a\r\nX-Request-Id: r-1\r\n\r\n`;
}

test('every outcome of GET /otp/{otp_id} has its response, and HEAD omits the body', async () => {
  let outcome: StatusOutcome = KNOWN;
  const { port, calls } = await startServer({ status: async () => outcome });
  const rows: [StatusOutcome, string, string][] = [
    [KNOWN, '200 OK', KNOWN_BODY],
    [{ ...KNOWN, createdAt: 0, expiresAt: 300_999_999 }, '200 OK', KNOWN_BODY
      .replace(/"created_at".*/, '"created_at":"1970-01-01T00:00:00.000000Z",'
        + '"expires_at":"1970-01-01T00:05:00.999999Z"}')],
    [{ kind: 'unknown' }, '404 Not Found', NOT_FOUND_BODY],
  ];
  for (const [given, line, body] of rows) {
    outcome = given;
    same(given.kind, await exchange(port, ask('GET')), line, [], body);
    const got = await exchange(port, ask('HEAD'), { noBody: true });
    same(given.kind, { ...got, body }, line, [], body);
  }
  assert.equal(new Set(calls), new Set([`status ${OTP_ID}`]));
});

test('a response shows every status, and a purpose of any characters', async () => {
  let outcome: StatusOutcome = KNOWN;
  const { port } = await startServer({ status: async () => outcome });
  const all: OtpStatus[] = ['pending', 'sent', 'failed', 'verified', 'expired', 'superseded',
    'locked', 'canceled'];
  for (const status of all) {
    outcome = { ...KNOWN, status, purpose: 'ú "1"\u2028\\', channel: 'sms' };
    const got = await exchange(port, ask('GET'));
    const body = JSON.parse(Buffer.from(got.body, 'latin1').toString()) as object;
    assert.equal(body, {
      ...JSON.parse(KNOWN_BODY) as object, status, purpose: 'ú "1"\u2028\\', channel: 'sms',
    });
  }
});

test('every outcome of DELETE has its response, and a 204 has no content headers', async () => {
  let kind: CancelOutcome['kind'] = 'canceled';
  const { port, calls } = await startServer({ cancel: async () => ({ kind }) });
  const rows: [CancelOutcome['kind'], string, string][] = [
    ['canceled', '204 No Content', ''],
    ['unknown', '404 Not Found', NOT_FOUND_BODY],
    ['used', '410 Gone', '{"error":"code_used"}'],
    ['expired', '410 Gone', '{"error":"code_expired"}'],
  ];
  for (const [given, line, body] of rows) {
    kind = given;
    same(given, await exchange(port, ask('DELETE')), line, [], body);
  }
  assert.equal(calls, rows.map(() => `cancel ${OTP_ID}`));
});

test('an error of the operation is a 503 or 500 that shows nothing, and reaches the log in full',
  async () => {
    const own = { ...DEFAULT_POLICY, userLimit: 5 };
    const policies = createPolicies(DEFAULT_POLICY, new Map([['login', own]]));
    let error: unknown = new Unavailable('pool full', { retryAfterSeconds: 2 });
    const fail = (): Promise<never> => Promise.reject(error);
    const { port, errors } = await startServer({
      policies, request: fail, verify: fail, status: fail, cancel: fail,
    });
    const mine = { 'X-Request-Id': 'r-1' };
    const ownPolicy = 'RateLimit-Policy: "user";q=5;w=900, "ip";q=8;w=900';
    same('away', await exchange(port, post('/otp/request', REQUEST_BODY, mine)),
      '503 Service Unavailable', ['Retry-After: 2', ownPolicy], '{"error":"unavailable"}');
    same('away', await exchange(port, post('/otp/verify', VERIFY_BODY, mine)),
      '503 Service Unavailable', ['Retry-After: 2'], '{"error":"unavailable"}');
    for (const method of ['GET', 'DELETE']) {
      same('away', await exchange(port, ask(method)),
        '503 Service Unavailable', ['Retry-After: 2'], '{"error":"unavailable"}');
    }
    error = new TypeError('secret of host db-7');
    same('bug', await exchange(port, post('/otp/request', REQUEST_BODY, mine)),
      '500 Internal Server Error', [ownPolicy], '{"error":"internal"}');
    assert.equal(errors.map(({ route }) => route),
      ['/otp/request', '/otp/verify', '/otp/{otp_id}', '/otp/{otp_id}', '/otp/request']);
    assert.ok(errors.every(({ requestId }) => requestId === 'r-1'));
    assert.is(errors.at(-1)?.error, error);
  });

test('a well-formed request id is repeated, and any other is replaced by a UUID', async () => {
  const { port } = await startServer();
  const idOf = async (lines: string): Promise<string> => {
    const got = await exchange(port, `GET / HTTP/1.1\r\nHost: a\r\n${lines}\r\n`);
    return got.headers.get('x-request-id') as string;
  };
  const longest = 'a'.repeat(64);
  assert.is(await idOf('X-Request-Id: A.b_c-9\r\n'), 'A.b_c-9');
  assert.is(await idOf(`X-Request-Id: ${longest}\r\n`), longest);
  const made = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
  const rows = ['', `X-Request-Id: ${longest}a\r\n`, 'X-Request-Id: a b\r\n', 'X-Request-Id:\r\n',
    'X-Request-Id: <x>\r\n', 'X-Request-Id: a\r\nX-Request-Id: a\r\n'];
  for (const lines of rows) assert.match(await idOf(lines), made, lines);
});

test.after(stopServers);
test.run();
