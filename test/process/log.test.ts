/** The log of real processes: one safe line per request, without secrets, that never blocks. */
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync, constants, mkdtempSync, openSync, readFileSync, readlinkSync, rmSync, writeFileSync,
} from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fetchAnswer } from '../harness/answer-recorder.ts';
import { newApiClients } from '../harness/api-clients.ts';
import { closeClient, post, send } from '../harness/client.ts';
import { variablesFor } from '../harness/command.ts';
import type { Variables } from '../harness/command.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { parseDeviceToken } from '../harness/device-token.ts';
import { parseExposition, valueOf } from '../harness/exposition.ts';
import { childrenOf } from '../harness/otpd.ts';
import { codesIn, withoutMessages } from '../harness/printed.ts';
import { COMPILED, ROOT, SHELL } from '../harness/program.ts';
import { recordCode, recordVisible } from '../harness/leak-recorder.ts';
import { eventually, promptly } from '../harness/waiting.ts';
import { exchange, openClient } from '../http/raw-client.ts';

const PAGE = readFileSync(join(ROOT, 'docs/logging.md'), 'utf8');

/** PIPE_BUF: the longest write to a pipe that is atomic. */
const PIPE_BUF = 4096;

type Line = Record<string, unknown>;

/** A running otpd. Its standard error is a socket unless the test opens another file. */
class Logged {
  readonly child: ChildProcess;
  printed = '';
  logged = '';

  constructor(environment: object, more: { stderr?: number; nodeOptions?: string[] } = {}) {
    const parameters = [...more.nodeOptions ?? [], ...COMPILED, 'serve'];
    this.child = spawn(process.execPath, parameters, {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', more.stderr ?? 'pipe'],
      env: { ...SHELL, PORT: '0', ...environment } as NodeJS.ProcessEnv,
    });
    this.child.stdout!.on('data', (chunk: Buffer) => { this.printed += chunk.toString(); });
    this.child.stderr?.on('data', (chunk: Buffer) => { this.logged += chunk.toString(); });
    all.add(this);
  }

  async port(words = 'otpd answers'): Promise<number> {
    const pattern = new RegExp(`${words} on http://127\\.0\\.0\\.1:(\\d+)`);
    await eventually('otpd answers', () => {
      if (this.child.exitCode !== null) throw new Error(this.printed + this.logged);
      return pattern.test(this.printed);
    });
    return Number(pattern.exec(this.printed)![1]);
  }

  codes(): string[] {
    return codesIn(this.printed);
  }

  /** Every line; each must be JSON. */
  lines(): Line[] {
    return this.logged.split('\n').slice(0, -1).map((line) => JSON.parse(line) as Line);
  }

  /** Waits for this many lines of requests. */
  async requests(count: number): Promise<Line[]> {
    const find = () => this.lines().filter(({ request_id: id }) => id !== undefined);
    await eventually(`${count} lines`, () => find().length >= count);
    assert.is(find().length, count);
    return find();
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const ended = once(this.child, 'close');
    this.child.kill(signal);
    const [code] = await ended as [number | null];
    all.delete(this);
    for (const one of this.codes()) recordCode(one);
    recordVisible(withoutMessages(this.printed) + this.logged);
    return code;
  }
}

const all = new Set<Logged>();

let database: TestDatabase;
let variables: Variables;

test.before(async () => {
  database = await createTestDatabase();
  database.close();
  variables = variablesFor(database.settings.database!);
});
test.after(() => {
  closeClient();
  for (const { child } of all) {
    child.kill('SIGKILL');
    child.stderr?.destroy();
  }
});

const ASK = { path: '/otp/request', body: { user_id: 'U1', purpose: 'login' } };
const TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

function another(code: string): string {
  return String((Number(code) + 1) % 1_000_000).padStart(6, '0');
}

/** Sends a request of each kind in sequence. Returns the expected [outcome, event] of each. */
async function everyKind(otpd: Logged, port: number): Promise<[string, string][]> {
  const issued = await post({ port, ...ASK, key: 'canary-key', headers: { Traceparent: TRACE } });
  const path = `/otp/${String(issued.body.otp_id)}`;
  await post({ port, ...ASK, key: 'canary-key' });
  const other = { ...ASK.body, purpose: 'b' };
  await post({ port, path: '/otp/request', key: 'canary-key', body: other });
  await eventually('the code is printed', () => otpd.codes().length === 1);
  const [code] = otpd.codes();
  const verify = (typed: string, key?: string) =>
    post({ port, path: '/otp/verify', key, body: { ...ASK.body, code: typed } });
  await verify(another(code!));
  await verify('canary');
  await send({ port, path, method: 'GET' });
  await verify(code!, 'v');
  await verify(code!);
  await verify(another(code!), 'v');
  await send({ port, path, method: 'DELETE' });
  await post({ port, ...ASK, key: 'b' });
  await eventually('the second code is printed', () => otpd.codes().length === 2);
  const wrong = another(otpd.codes()[1]!);
  for (let tries = 0; tries < 4; tries += 1) await verify(wrong);
  await post({ port, ...ASK, key: 'c' });
  await post({ port, path: '/otp/verify', body: { user_id: 'U9', purpose: 'x', code: '000000' } });
  return [
    ['issued', 'authn_token_created'], ['issued', 'authn_token_created'],
    ['idempotency_key_reused', 'input_validation_fail'],
    ['invalid_code', 'authn_login_fail'], ['invalid_request', 'input_validation_fail'],
    ['known', 'sensitive_read'], ['verified', 'authn_login_success'],
    ['code_used', 'authn_token_reuse'], ['idempotency_key_reused', 'authn_login_fail'],
    ['code_used', 'input_validation_fail'],
    ['issued', 'authn_token_created'], ['invalid_code', 'authn_login_fail'],
    ['invalid_code', 'authn_login_fail'], ['too_many_attempts', 'authn_login_lock'],
    ['too_many_attempts', 'authn_login_fail_max'], ['too_many_attempts', 'authn_login_fail_max'],
    ['otp_not_found', 'authn_login_fail'],
  ];
}

/** Requests that never reach a handler. */
async function everyRefusal(port: number): Promise<[string, string][]> {
  await send({ port, path: '/canary-path?canary-query', method: 'GET' });
  await send({ port, path: '/otp/request', method: 'GET' });
  await post({ port, path: '/otp/verify', body: 'x'.repeat(5000) });
  await post({ port, path: '/otp/verify', body: 'x', headers: { 'Content-Type': 'text/canary' } });
  await post({ port, path: '/otp/verify', body: '{"canary-member":1}' });
  await exchange(port, 'CANARY \x1b[31m\r\n{"forged":1}\r\n\r\n');
  await exchange(port, `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`);
  return ['not_found', 'method_not_allowed', 'payload_too_large', 'unsupported_media_type',
    'invalid_request', 'invalid_request', 'headers_too_large']
    .map((outcome) => [outcome, 'input_validation_fail']);
}

test('each request has one line with its event and without code, user or address', async () => {
  const otpd = new Logged(variables);
  const port = await otpd.port();
  const expected = [...await everyKind(otpd, port), ...await everyRefusal(port)];
  const lines = await otpd.requests(expected.length);
  assert.equal(lines.map(({ outcome, event }) => [outcome, event]), expected);
  const client = await openClient(port);
  client.send('POST /otp/request HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n'
    + 'Idempotency-Key: k\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n');
  await client.readResponse({ noBody: true });
  client.socket.resetAndDestroy();
  const gone = (await otpd.requests(expected.length + 1)).at(-1)!;
  assert.equal([gone.event, gone.outcome, gone.route, gone.status],
    ['client_gone', 'client_gone', '/otp/request', undefined]);
  assert.is(await otpd.stop(), 0);

  const [first, second, reused] = lines as [Line, Line, Line];
  assert.equal(Object.keys(first), ['time', 'level', 'event', 'request_id', 'route', 'method',
    'status', 'outcome', 'duration_ms', 'user', 'purpose', 'otp_id', 'client', 'peer',
    'traceparent']);
  assert.match(String(first.time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.ok(Math.abs(Date.parse(String(first.time)) - Date.now()) < 60_000);
  assert.equal([first.level, first.route, first.method, first.status, first.purpose,
    first.traceparent], ['info', '/otp/request', 'POST', 201, 'login', TRACE]);
  assert.ok(Number(first.duration_ms) > 0 && Number(first.duration_ms) < 10_000);
  for (const name of ['user', 'client', 'peer']) {
    assert.match(String(first[name]), /^[0-9a-f]{16}$/);
  }
  assert.equal([second.replayed, second.otp_id, second.traceparent],
    [true, first.otp_id, undefined]);
  assert.equal([reused.user, reused.level], [first.user, 'warn']);
  assert.equal([lines[4]!.field, lines[5]!.route, lines[5]!.otp_id],
    ['code', '/otp/{otp_id}', first.otp_id]);
  const routes = lines.slice(-7).map(({ route }) => route);
  assert.equal(routes, ['other', '/otp/request', '/otp/verify', '/otp/verify', '/otp/verify',
    'other', 'other']);
  assert.ok(lines.every(({ client, peer }) => client === first.client && peer === first.peer));

  const events = otpd.lines().map(({ event }) => event);
  assert.equal([events[0], events.at(-1)], ['sys_startup', 'sys_shutdown']);
  const secret = variables.OTP_SECRETS!.split(':')[1]!;
  for (const hidden of [/canary/i, /forged/, /U1|U9/, /127\.0\.0\.1/, secret, ...otpd.codes()]) {
    assert.not.match(otpd.logged, hidden);
  }
});

test('the line of a refusal names the limits that refuse', async () => {
  const otpd = new Logged({ ...variables, TRUSTED_PROXIES: '127.0.0.1' });
  const port = await otpd.port();
  const users = ['L1', 'L1', 'L1', 'L1', 'L2', 'L3', 'L4', 'L5', 'L6', 'L7', 'L1', 'l+1@L.example'];
  for (const [index, user_id] of users.entries()) {
    const body = { user_id, purpose: 'login' };
    const named = { key: `limit-${index}`, address: '192.0.2.77' };
    await post({ port, path: '/otp/request', body, ...named });
  }
  const lines = await otpd.requests(users.length);
  assert.equal(lines.map(({ status, limit }) => [status, limit]), [
    ...[1, 2, 3].map(() => [201, undefined]), [429, 'user'],
    ...[4, 5, 6, 7, 8].map(() => [201, undefined]), [429, 'address'], [429, 'user,address'],
    [429, 'address'],
  ]);
  await eventually('every message is printed', () => otpd.codes().length === 8);
  assert.is(await otpd.stop(), 0);
});

test('the line of an attempt that is refused names the limit', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-log-'));
  const POLICY_FILE = join(folder, 'policy.json');
  writeFileSync(POLICY_FILE, '{"default": {"wrong_codes_limit": 1}}');
  const otpd = new Logged({ ...variables, POLICY_FILE, TRUSTED_PROXIES: '127.0.0.1' });
  const port = await otpd.port();
  const pair = { user_id: 'W1', purpose: 'login' };
  const from = { port, address: '192.0.2.78' };
  await post({ ...from, path: '/otp/request', key: 'wrong-codes', body: pair });
  await eventually('the code is printed', () => otpd.codes().length === 1);
  const body = { ...pair, code: another(otpd.codes()[0]!) };
  for (let tries = 0; tries < 2; tries += 1) await post({ ...from, path: '/otp/verify', body });
  const lines = await otpd.requests(3);
  assert.equal(lines.map(({ status, limit }) => [status, limit]),
    [[201, undefined], [401, undefined], [429, 'wrong_codes']]);
  assert.is(await otpd.stop(), 0);
  rmSync(folder, { recursive: true });
});

test('the line of a success names the device, and no line its token', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-log-'));
  const POLICY_FILE = join(folder, 'policy.json');
  writeFileSync(POLICY_FILE, '{"default": {"device_days": 30}}');
  const otpd = new Logged({ ...variables, POLICY_FILE });
  const port = await otpd.port();
  const pair = { user_id: 'D1', purpose: 'login' };
  await post({ port, path: '/otp/request', key: 'devices', body: pair });
  await eventually('the code is printed', () => otpd.codes().length === 1);
  const verify = (code: string) =>
    post({ port, path: '/otp/verify', key: 'device', body: { ...pair, code } });
  const [code = ''] = otpd.codes();
  await verify(another(code));
  const { headers } = await verify(code);
  const token = String(headers['otp-device']);
  assert.is((await verify(code)).headers['otp-device'], token);
  const { device } = parseDeviceToken(token);
  const lines = await otpd.requests(4);
  assert.equal(lines.map((line) => [line.outcome, line.device]), [['issued', undefined],
    ['invalid_code', undefined], ['verified', device], ['verified', device]]);
  assert.not.match(otpd.logged, token.split('.')[1]!);
  assert.is(await otpd.stop(), 0);
  rmSync(folder, { recursive: true });
});

test('the wrong code that locks an account begins a lock in log and metrics', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-test-'));
  const file = join(folder, 'policy.json');
  writeFileSync(file, '{"default":{"wrong_attempts_until_unlock":3,"wrong_attempts":9}}');
  const otpd = new Logged({ ...variables, POLICY_FILE: file, ADMIN_PORT: '0' });
  const port = await otpd.port();
  const names = { user_id: 'L9', purpose: 'login' };
  const ask = async (key: string) => {
    const { body } = await post({ port, path: '/otp/request', body: names, key });
    return body.otp_id;
  };
  const first = await ask('lock-1');
  const second = await ask('lock-2');
  await eventually('the codes are printed', () => otpd.codes().length === 2);
  const wrong = another(otpd.codes()[1]!);
  for (const otp_id of [first, second, second, second, second]) {
    const body = { ...names, code: wrong === otpd.codes()[0] ? another(wrong) : wrong, otp_id };
    await post({ port, path: '/otp/verify', body });
  }
  await ask('lock-3');
  const lines = await otpd.requests(8);
  assert.equal(lines.slice(2).map(({ status, outcome, event }) => [status, outcome, event]), [
    [410, 'code_superseded', 'authn_login_fail'],
    [401, 'invalid_code', 'authn_login_fail'], [401, 'invalid_code', 'authn_login_fail'],
    [403, 'account_locked', 'authn_login_lock'], [403, 'account_locked', 'authn_login_fail_max'],
    [403, 'account_locked', 'authn_login_fail_max'],
  ]);
  const admin = await otpd.port('health and metrics');
  const text = await (await fetchAnswer(`http://127.0.0.1:${admin}/metrics`)).text();
  for (const line of ['otpd_locks_total 1', 'otpd_codes_wrong_total 3',
    'otpd_http_requests_total{route="/otp/verify",code="account_locked"} 2',
    'otpd_http_requests_total{route="/otp/request",code="account_locked"} 1']) {
    assert.ok(text.includes(`\n${line}\n`), line);
  }
  assert.is(await otpd.stop(), 0);
  rmSync(folder, { recursive: true });
});

test('the log names the API client, reports a failed login and contains no key', async () => {
  const { apiKeys, headersOf } = newApiClients(['app1']);
  const readers = newApiClients(['reader'], ['read']);
  const otpd = new Logged({ ...variables, API_KEYS: `${apiKeys},${readers.apiKeys}` });
  const port = await otpd.port();
  const headers = { ...headersOf('app1'), 'X-Client-IP': '203.0.113.9' };
  await post({ port, ...ASK, key: 'd', headers });
  await post({ port, ...ASK, key: 'd', headers: { Authorization: 'Bearer canary' } });
  await post({ port, ...ASK, key: 'd', headers: readers.headersOf('reader') });
  const lines = await otpd.requests(3);
  assert.equal(lines.map(({ outcome, event, caller }) => [outcome, event, caller]), [
    ['too_many_attempts', 'authn_login_fail_max', 'app1'],
    ['unauthorized', 'authn_login_fail', undefined],
    ['forbidden', 'authz_fail', undefined],
  ]);
  assert.is.not(lines[0]!.client, lines[0]!.peer);
  assert.is(lines[1]!.client, undefined);
  await otpd.stop();
  assert.not.match(otpd.logged, /canary|Bearer|otpd_|203\.0/);
});

const NASTY = 'a"b\\c ","event":"forged" \u2028\u2029\u202e é😀';

test('raw text of clients forges no line and no colour', async () => {
  for (const format of ['json', 'text']) {
    const environment = { ...variables, LOG_RAW_IDS: '1', LOG_FORMAT: format };
    const otpd = new Logged(environment);
    const port = await otpd.port();
    const body = { user_id: NASTY, purpose: NASTY };
    await post({ port, path: '/otp/request', key: format, body });
    await post({ port, path: '/otp/request', body: { user_id: 'a\u001b[31m\n', purpose: 'b' } });
    await post({ port, path: '/otp/request', body: { user_id: '\u{1f600}'.repeat(255),
      purpose: '\u{1f600}'.repeat(100) }, key: `${format}2` });
    await send({ port, path: '/', method: 'GET', headers: {
      'X-Request-Id': '","a":"', Traceparent: `${TRACE}","a":"` } });
    await eventually('four lines are logged', () => otpd.logged.split('\n').length >= 6);
    await otpd.stop();
    const lines = otpd.logged.split('\n').slice(0, -1);
    assert.is(lines.length, 6, otpd.logged);
    for (const line of lines) assert.match(line, /^[\x20-\x7e]+$/);
    for (const line of lines) assert.ok(line.length < PIPE_BUF, String(line.length));
    if (format === 'json') {
      const [, first, , long, last] = otpd.lines() as Line[];
      assert.equal([first!.user, first!.purpose], [NASTY, NASTY]);
      assert.equal([first!.client, first!.peer], ['127.0.0.1', '127.0.0.1']);
      assert.match(String(long!.user), /^(\u{1f600})+\.\.\.$/u);
      assert.is(last!.traceparent, undefined);
    } else {
      for (const line of lines) assert.match(line, /^\d\d:\d\d:\d\d\.\d{3}Z (info |warn ) [a-z_]+/);
    }
  }
});

test('a valid traceparent of any version is logged, and a malformed one is not', async () => {
  const otpd = new Logged(variables);
  const port = await otpd.port();
  const later = TRACE.replace(/^00/, '01');
  const given = [TRACE, `${later}-what-comes-later`, `${TRACE}-more`, `${TRACE}, ${TRACE}`, '',
    TRACE.toUpperCase(), TRACE.replace(/^00/, 'ff'), TRACE.slice(1),
    TRACE.replace('b7ad6b7169203331', '0'.repeat(16))];
  for (const Traceparent of given) {
    await send({ port, path: '/', method: 'GET', headers: { Traceparent } });
  }
  const lines = await otpd.requests(given.length);
  assert.equal(lines.map(({ traceparent }) => traceparent).slice(0, 2), [TRACE, later]);
  assert.ok(lines.slice(2).every(({ traceparent }) => traceparent === undefined));
  await otpd.stop();
});

test('pseudonyms are equal in every process and differ under another secret', async () => {
  const names: unknown[] = [];
  for (const more of [{}, { WORKERS: '2' }, { OTP_SECRETS: variablesFor('x').OTP_SECRETS }]) {
    const otpd = new Logged({ ...variables, ...more });
    await post({ port: await otpd.port(), ...ASK, key: 'e' });
    const [line] = await otpd.requests(1);
    names.push(line!.user);
    await otpd.stop();
  }
  assert.is(names[0], names[1]);
  assert.is.not(names[0], names[2]);
});

test('LOG_LEVEL=warn omits successes, and error also omits refusals', async () => {
  const own = await createTestDatabase();
  own.close();
  const named = variablesFor(own.settings.database!);
  for (const [level, count] of [['warn', 2], ['error', 1]] as const) {
    const otpd = new Logged({ ...named, LOG_LEVEL: level });
    const port = await otpd.port();
    const missing = await send({ port, path: `/otp/${'0'.repeat(32)}`, method: 'GET' });
    assert.is(missing.status, 404);
    await own.query('ALTER TABLE otps RENAME COLUMN otp_id TO gone');
    const failed = await send({ port, path: `/otp/${'0'.repeat(32)}`, method: 'GET' });
    assert.is(failed.status, 500);
    await own.query('ALTER TABLE otps RENAME COLUMN gone TO otp_id');
    const lines = await otpd.requests(count);
    const { event, outcome, level: shown, message, stack } = lines.at(-1)!;
    assert.equal([event, outcome, shown], ['request_failed', 'internal', 'error']);
    assert.match(String(message), /ER_BAD_FIELD_ERROR/);
    assert.match(String(stack), /\n\s+at /);
    assert.is(await otpd.stop(), 0);
    assert.is(otpd.lines().length, count);
  }
});

/** Enough lines to fill a pipe and the buffer of the writer. */
const FLOOD_REQUESTS = 9000;
const FLOOD_SOCKETS = 30;

/** Few enough that none is dropped, however late the reader is. */
const KEPT_REQUESTS = 3000;

/** The clients of a flood: each stays below the number of lines that it may cause. */
const FLOOD_CLIENTS = 1000;
const TRUSTING = { TRUSTED_PROXIES: '127.0.0.0/8' };

async function flood(port: number, requests = FLOOD_REQUESTS): Promise<void> {
  let client = 0;
  await Promise.all(Array.from({ length: FLOOD_SOCKETS }, async () => {
    for (let sent = 0; sent < requests / FLOOD_SOCKETS; sent += 1) {
      client = (client + 1) % FLOOD_CLIENTS;
      const address = `10.0.${client >> 8}.${client & 255}`;
      const { status } = await promptly(() => send({ port, path: '/', method: 'GET', address }));
      assert.is(status, 404);
    }
  }));
}

/** The two ends of a pipe that is not read at first. */
function openPipe(folder: string): { reader: number; writer: number } {
  const path = join(folder, 'pipe');
  execFileSync('mkfifo', [path]);
  // A FIFO can be opened for writing without blocking only when it has a reader.
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  return { reader, writer: openSync(path, 'w') };
}

test('a client that sends junk causes ten lines, and one that counts the others', async () => {
  const otpd = new Logged({ ...variables, ...TRUSTING });
  const port = await otpd.port();
  const junk = (address: string) => send({ port, path: '/', method: 'GET', address });
  for (let sent = 0; sent < 200; sent += 1) await junk('192.0.2.1');
  for (let sent = 0; sent < 10; sent += 1) await junk('192.0.2.2');
  for (let sent = 0; sent < 30; sent += 1) await exchange(port, 'junk\r\n\r\n');
  assert.is((await otpd.requests(30)).length, 30);
  assert.is(await otpd.stop(), 0);
  const withheld = otpd.lines().filter(({ event }) => event === 'log_lines_withheld');
  const first = otpd.lines().find(({ outcome }) => outcome === 'not_found')!;
  assert.equal(withheld.map(({ of, count }) => [of, count]),
    [['input_validation_fail', 190], ['input_validation_fail', 20]]);
  assert.equal([withheld[0]!.client, withheld[0]!.level], [first.client, 'warn']);
  assert.is.not(withheld[1]!.client, first.client);
});

test('neither the log nor the metrics say where a message goes', async () => {
  const { apiKeys, headersOf } = newApiClients(['app1'], ['request', 'to']);
  const otpd = new Logged({ ...variables, API_KEYS: apiKeys, ADMIN_PORT: '0' });
  const port = await otpd.port();
  const headers = headersOf('app1');
  const names = { user_id: 'U9', purpose: 'login' };
  for (const [to, status] of [['+14155550123', 201], ['4155550123', 400]] as const) {
    const answer = await post({ port, path: '/otp/request', key: to, headers,
      body: { ...names, to } });
    assert.is(answer.status, status);
    assert.is(answer.body.field, status === 400 ? 'to' : undefined);
  }
  await otpd.requests(2);
  const adminPort = await otpd.port('health and metrics');
  const metrics = await (await fetchAnswer(`http://127.0.0.1:${adminPort}/metrics`)).text();
  await eventually('it is sent', () => otpd.printed.includes('message to +14155550123: '));
  assert.is(await otpd.stop(), 0);
  assert.not.match(otpd.logged, '4155550123');
  assert.not.match(metrics, '4155550123');
});

test('malformed requests of an API client that names no client IP are bounded', async () => {
  const { apiKeys, headersOf } = newApiClients(['app1'], ['request', 'read']);
  const otpd = new Logged({ ...variables, API_KEYS: apiKeys });
  const port = await otpd.port();
  const headers = headersOf('app1');
  for (let sent = 0; sent < 15; sent += 1) {
    const body = { user_id: 'a'.repeat(256), purpose: 'login' };
    await post({ port, path: '/otp/request', key: `long${sent}`, body, headers });
  }
  assert.is((await otpd.requests(10)).length, 10);
  assert.is(await otpd.stop(), 0);
  const withheld = otpd.lines().filter(({ event }) => event === 'log_lines_withheld');
  assert.equal(withheld.map(({ of, caller, count }) => [of, caller, count]),
    [['input_validation_fail', 'app1', 5]]);
});

test('a stuck reader delays no response, and lost lines are counted', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-log-'));
  const { reader, writer } = openPipe(folder);
  const kinds = { pipe: { stderr: writer }, socket: {} };
  for (const [kind, more] of Object.entries(kinds)) {
    const otpd = new Logged({ ...variables, ...TRUSTING, ADMIN_PORT: '0' }, more);
    otpd.child.stderr?.pause();
    const port = await otpd.port();
    await flood(port);
    const adminPort = await otpd.port('health and metrics');
    const scraped = await fetchAnswer(`http://127.0.0.1:${adminPort}/metrics`);
    const dropped = valueOf(parseExposition(await scraped.text()), 'otpd_log_lines_dropped_total');
    assert.ok(dropped > 500 && dropped < FLOOD_REQUESTS, `${kind}: ${dropped}`);

    if (kind === 'socket') otpd.child.stderr!.resume();
    else new Socket({ fd: reader }).on('data', (chunk) => { otpd.logged += chunk.toString(); });
    await eventually('the buffered lines and the number of dropped ones are logged', () =>
      /log_lines_dropped.*\n/.test(otpd.logged));
    const lines = await otpd.requests(FLOOD_REQUESTS - dropped);
    assert.ok(lines.every(({ outcome }) => outcome === 'not_found'));
    const reported = otpd.lines().filter(({ event }) => event === 'log_lines_dropped')
      .reduce((sum, { count }) => sum + Number(count), 0);
    assert.is(reported, dropped);
    await send({ port, path: '/', method: 'GET' });
    await otpd.requests(FLOOD_REQUESTS - dropped + 1);
    assert.is(await otpd.stop(), 0);
  }
  closeSync(writer);
  rmSync(folder, { recursive: true });
});

test('a reader that stays stuck or is gone does not delay the exit', async () => {
  const kinds: { isGone?: boolean; WORKERS?: string }[] = [{}, { isGone: true }, { WORKERS: '2' }];
  for (const { isGone, ...more } of kinds) {
    const otpd = new Logged({ ...variables, ...TRUSTING, ...more });
    otpd.child.stderr!.pause();
    const port = await otpd.port();
    if (isGone === true) otpd.child.stderr!.destroy();
    await flood(port);
    const ended = once(otpd.child, 'exit');
    otpd.child.kill('SIGTERM');
    const [code] = await promptly(() => ended);
    assert.is(code, 0);
    all.delete(otpd);
  }
});

test('several processes write whole lines to a socket and to a file', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-log-'));
  const path = join(folder, 'log');
  const file = openSync(path, 'w');
  for (const more of [{}, { stderr: file }]) {
    const otpd = new Logged({ ...variables, ...TRUSTING, WORKERS: '2' }, more);
    await flood(await otpd.port(), KEPT_REQUESTS);
    const outside = (id: number) => readlinkSync(`/proc/${id}/fd/2`);
    const processes = [otpd.child.pid!, ...childrenOf(otpd.child.pid!)];
    // Any process that shares the socket can make the writes of the others block.
    assert.is(new Set(processes.map(outside)).size, 'stderr' in more ? 1 : 3);
    await eventually('every line is logged', () => {
      if ('stderr' in more) otpd.logged = readFileSync(path, 'utf8');
      return otpd.logged.split('not_found').length > KEPT_REQUESTS;
    });
    await otpd.requests(KEPT_REQUESTS);
    assert.is(await otpd.stop(), 0);
  }
  closeSync(file);
  rmSync(folder, { recursive: true });
});

test('an exit in the same turn of the event loop still writes the last lines', async () => {
  const program = "import('./.test-build/src/app/log/writer.js').then(({ LogWriter }) => {"
    + " new LogWriter(2, String).push('the last line\\n'); process.exit(3); });";
  const child = spawn(process.execPath, ['-e', program], { cwd: ROOT });
  let logged = '';
  child.stderr.on('data', (chunk: Buffer) => { logged += chunk.toString(); });
  assert.equal(await once(child, 'close'), [3, null]);
  assert.is(logged, 'the last line\n');
});

test('an uncaught error is logged as sys_crash with its stack and exits with 1', async () => {
  const nodeOptions = ['--import', './test/fixtures/throw-on-signal.mjs'];
  for (const [signal, message] of [['SIGPWR', 'thrown'], ['SIGIO', 'rejected']] as const) {
    const otpd = new Logged(variables, { nodeOptions });
    const port = await otpd.port();
    await send({ port, path: '/', method: 'GET' });
    assert.is(await otpd.stop(signal), 1);
    const line = otpd.lines().at(-1)!;
    assert.equal([line.event, line.level, line.message],
      ['sys_crash', 'error', `${message} by a test`]);
    assert.match(String(line.stack), /throw-on-signal/);
    assert.is(otpd.lines().length, 3);
  }
});

test('docs/logging.md names every event', () => {
  for (const file of ['app/log/request-log.ts', 'app/log/event-log.ts', 'app/log/log.ts',
    'app/serve.ts', 'app/process/shutdown.ts']) {
    const source = readFileSync(join(ROOT, 'src', file), 'utf8');
    const events = /'((?:authn|authz|sys|delivery|channel|input|excess|log)_[a-z_]+)'/g;
    for (const [, event] of source.matchAll(events)) {
      assert.ok(PAGE.includes(`\`${event}\``), event);
    }
  }
});

test.run();
