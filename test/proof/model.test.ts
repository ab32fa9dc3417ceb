/**
 * Random histories over HTTP on the real database, compared with the model. OTPD_TEST_HISTORIES
 * sets their number, or OTPD_TEST_SECONDS the time for them; OTPD_TEST_SEED repeats a failed run.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import fc from 'fast-check';
import { formatInstant } from '../../src/db/instant.ts';
import { parsePolicies } from '../../src/otp/policy/policy-file.ts';
import type { Policies } from '../../src/otp/policy/policy.ts';
import { revokeDevices, unlockUser } from '../../src/otp/support.ts';
import { newApiClients } from '../harness/api-clients.ts';
import { closeClient, post } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { parseDeviceToken } from '../harness/device-token.ts';
import { newSecretsText, secretsOf, startTestService } from '../harness/service.ts';
import type { TestService } from '../harness/service.ts';
import { eventually } from '../harness/waiting.ts';
import { Model } from './model.ts';
import type { Client, Expected, Numbers, Use } from './model.ts';
import { decided, wrongCode } from './load.ts';

/** The length of a long run in seconds; 0: no limit. */
const SECONDS = Number(process.env.OTPD_TEST_SECONDS ?? 0);
const HISTORIES = SECONDS > 0 ? Infinity : Number(process.env.OTPD_TEST_HISTORIES ?? 300);
const SEED = Number(process.env.OTPD_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const COMMANDS_MAX = 80;
const FIRST_NOW = 1_767_600_000_000_000;
/** `SET timestamp` ends in January 2038, and a history may span years. */
const LAST_NOW = 2_000_000_000_000_000;

/** Which tokens a client sends: none, of its user the newest, the one before or the oldest, … */
type Device = 'none' | 'newest' | 'before' | 'oldest' | 'foreign' | 'forged' | 'listed' | 'ninth';

type Command =
  | { kind: 'request'; user: number; purpose: number; address: number; device: Device; key: number;
      to: 'normal' | 'another' | null; channel: string | null; locale: string | null }
  | { kind: 'verify'; user: number; purpose: number; code: string; otp: string; address: number;
      device: Device; key: number }
  /** A request and the verification of its code. */
  | { kind: 'login'; user: number; purpose: number; address: number; device: Device; key: number }
  /** Wrong codes for the newest OTP of a pair, which is requested first. */
  | { kind: 'guess'; user: number; purpose: number; address: number; device: Device;
      count: number }
  | { kind: 'unlock'; user: number; purpose: number | null }
  | { kind: 'revoke'; user: number; device: 'all' | 'newest' | 'oldest' }
  | { kind: 'step'; micros: number }
  | { kind: 'boundary'; pick: number; offset: number };

const small = (max: number) => fc.integer({ min: 0, max });
// Most events concern one pair and one address, so that the limits are reached.
const user = fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 1, 1, 2);
const purpose = fc.constantFrom(0, 0, 0, 0, 1);
/** Two client IPs of one IPv6 /48, and one of another. */
const address = fc.constantFrom(0, 0, 1, 2);
const device = fc.constantFrom<Device[]>('none', 'none', 'none', 'none', 'newest', 'newest',
  'newest', 'before', 'before', 'oldest', 'foreign', 'forged', 'listed', 'ninth');
/** Key 0 stands for a new key, or none. */
const key = fc.constantFrom(0, 0, 0, 1, 1, 2);

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('request' as const), user, purpose,
    address, device, key, to: fc.constantFrom(null, null, null, null, 'normal', 'another'),
    channel: fc.constantFrom(null, null, null, null, null, 'console'),
    locale: fc.constantFrom(null, null, null, null, null, 'de', 'DE') }) },
  { weight: 7, arbitrary: fc.record({ kind: fc.constant('verify' as const), user, purpose,
    code: fc.constantFrom('right', 'right', 'right', 'wrong', 'wrong', 'wrong', 'wrong', 'earlier',
      'old', 'other'),
    otp: fc.constantFrom('none', 'none', 'none', 'none', 'none', 'none', 'newest', 'newest',
      'newest', 'earlier', 'oldest', 'last', 'unknown'),
    address, device, key }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('login' as const), user, purpose, address,
    device, key }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('guess' as const), user, purpose, address,
    device, count: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('unlock' as const), user,
    purpose: fc.constantFrom(null, null, 0, 1) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('revoke' as const), user,
    device: fc.constantFrom('all', 'newest', 'oldest') }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('step' as const),
    micros: fc.oneof(small(2_000_000), small(400_000_000), fc.constant(86_400_000_000)) }) },
  // The nearest boundaries are those of codes and locks, the farthest those of keys.
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('boundary' as const),
    pick: fc.oneof(small(1), small(3), small(30)), offset: fc.constantFrom(-1, 0, 0, 1) }) },
);

const between = (min: number, max: number) => fc.integer({ min, max });
const numbers: fc.Arbitrary<Numbers> = fc.oneof(
  fc.constant({ lifetime: 300, userLimit: 3, addressLimit: 8, netLimit: 128, recipientLimit: 5,
    wrongAttempts: 3, lock: 600, cap: 100, wrongCodes: 60, wrongCodesNet: 600, deviceDays: 2,
    trusting: 'pq', devicesLimit: 6, reserve: 30 }),
  fc.record({ lifetime: between(30, 600), userLimit: between(1, 5), addressLimit: between(1, 5),
    netLimit: between(1, 7), recipientLimit: between(1, 4),
    wrongAttempts: between(1, 4), lock: between(1, 600), cap: between(3, 8),
    wrongCodes: between(1, 8), wrongCodesNet: between(1, 12),
    deviceDays: fc.constantFrom(null, 1, 1, 2), trusting: fc.constantFrom('pq', 'pq', 'p'),
    devicesLimit: between(1, 5), reserve: between(0, 5) })
    // At least 3 wrong attempts are left to untrusted clients.
    .map((chosen) => ({ ...chosen, reserve: Math.min(chosen.reserve, chosen.cap - 3) })),
);

let database: TestDatabase;
let now = FIRST_NOW;
let histories = 0;
let requests = 0;
let playing: Promise<void> = Promise.resolve();

test.before(async () => { database = await createTestDatabase(2); });
test.after(async () => {
  // The time limit of a long run ends in the middle of a history.
  await playing;
  if (SECONDS > 0) console.log(`seed ${SEED}: ${histories} histories, ${requests} requests`);
  closeClient();
  database.close();
});

type SentCode = Readonly<{ id: string; code: string; pair: string }>;

const UNKNOWN_ID = '0f'.repeat(16);
const secrets = secretsOf(newSecretsText());
const apiClients = newApiClients(['app']);

/** One history, run by the model and by the service. */
class History {
  readonly #model: Model;
  readonly #service: TestService;
  readonly #policies: Policies;
  readonly #name: string;
  /** Whether a key is sent, which allows `to`. */
  readonly #hasApiKey: boolean;
  /** All tokens that were received, the newest last. */
  readonly #tokens: Readonly<{ text: string; user: string }>[] = [];
  /** All codes that were sent. */
  readonly #sent: SentCode[] = [];
  #freshKeys = 0;

  constructor(
    model: Model,
    service: TestService,
    policies: Policies,
    { name, hasApiKey }: Readonly<{ name: string; hasApiKey: boolean }>,
  ) {
    this.#model = model;
    this.#service = service;
    this.#policies = policies;
    this.#name = name;
    this.#hasApiKey = hasApiKey;
  }

  async run(one: Command): Promise<void> {
    if (one.kind === 'login' || one.kind === 'guess') await this.#use(one);
    else if (one.kind === 'request') await this.#request(one);
    else if (one.kind === 'verify') await this.#verify(one);
    else if (one.kind === 'unlock') await this.#unlock(one);
    else if (one.kind === 'revoke') await this.#revoke(one);
    else this.#move(one);
  }

  async #use(one: Extract<Command, { kind: 'login' | 'guess' }>): Promise<void> {
    const isLogin = one.kind === 'login';
    const verify = { ...one, kind: 'verify', code: isLogin ? 'right' : 'wrong', otp: 'none',
      key: isLogin ? one.key : 0 } as const;
    await this.#request({ ...one, kind: 'request', key: 0, to: null, channel: null, locale: null });
    for (let count = isLogin ? 1 : one.count; count > 0; count -= 1) await this.#verify(verify);
  }

  #move(one: Extract<Command, { kind: 'step' | 'boundary' }>): void {
    const model = this.#model;
    if (one.kind === 'step') model.now += one.micros;
    else {
      const ahead = model.boundaries();
      if (ahead.length === 0) return;
      model.now = Math.max(model.now, ahead[one.pick % ahead.length]! + one.offset);
    }
    now = model.now;
    database.clock.set(formatInstant(now));
  }

  #key(index: number): string {
    this.#freshKeys += 1;
    return index === 0 ? `${this.#name}-${this.#freshKeys}` : `${this.#name}.${index}`;
  }

  /** A mailbox by its normal form, and by two other spellings. */
  #user(index: number): string {
    return [`${this.#name}@a.example`, `${this.#name}+x@a.example`,
      `${this.#name.toUpperCase()}@A.example.`][index]!;
  }

  #client(index: number, user: string, device: Device): Client {
    const net = `2a00:${this.#name.slice(1)}:${index >> 1}`;
    return { ip: `${net}:${index}::1`, net, tokens: this.#tokensFor(user, device) };
  }

  #tokensFor(user: string, device: Device): string[] {
    const own = this.#tokens.filter((token) => token.user === user).map(({ text }) => text);
    const foreign = this.#tokens.filter((token) => token.user !== user).map(({ text }) => text);
    const newest = own.at(-1) ?? 'test.';
    switch (device) {
      case 'none': return [];
      case 'newest': return [newest];
      case 'before': return [own.at(-2) ?? newest];
      case 'oldest': return [own[0] ?? newest];
      case 'foreign': return foreign.slice(-1);
      case 'forged': return [newest.replace(/\.[^8]?/, '.8')];
      case 'listed': return [...foreign.slice(-2), '', newest.slice(1), ...own.slice(-2).reverse()];
      case 'ninth': return ['', ' ', '.', 'test', 'test.', newest.slice(1), `${newest}A`, 'x',
        newest];
      default: return device satisfies never;
    }
  }

  /** The address of a request, and the recipient that it counts for. */
  #destination(user: number, to: 'normal' | 'another' | null): {
    to: string | null; recipient: string | null;
  } {
    if (to === null || !this.#hasApiKey) {
      return { to: null, recipient: user === 0 ? null : this.#name };
    }
    const recipient = to === 'normal' ? this.#name : `${this.#name}.b`;
    return { to: `${recipient}@a.example`, recipient };
  }

  async #request(one: Extract<Command, { kind: 'request' }>): Promise<void> {
    const user = this.#user(one.user);
    const { channel, locale } = one;
    const { to, recipient } = this.#destination(one.user, one.to);
    const use: Use = { user, purpose: 'pq'[one.purpose]!, to, channel, locale };
    const { purpose } = use;
    const client = this.#client(one.address, user, one.device);
    const key = this.#key(one.key);
    const expected = this.#model.request(use, { ...client, recipient }, key);
    const { messages } = this.#service;
    const sent = messages.length;
    const options = Object.fromEntries(Object.entries({ to, channel, locale })
      .filter(([, value]) => value !== null));
    const body = { user_id: user, purpose, ...options };
    const reply = await this.#post('request', body, key, client);
    compare(reply, expected);
    const isNew = expected.status === 201 && !expected.replayed;
    if (isNew) await eventually('the message is sent', () => messages.length > sent);
    assert.is(messages.length, sent + (isNew ? 1 : 0), 'messages');
    if (!isNew) return;
    const message = messages.at(-1)!;
    assert.equal([message.otpId, message.userId, message.purpose, message.to],
      [reply.body.otp_id, user, purpose, to]);
    const pair = this.#pairName(user, purpose, client);
    this.#sent.push({ id: message.otpId, code: message.code, pair });
    this.#model.issued(use, client.tokens, key, message.code, reply.body);
  }

  #pairName(user: string, purpose: string, { tokens }: Client): string {
    return `${user} ${purpose} ${this.#model.deviceOf(user, purpose, tokens)}`;
  }

  async #verify(one: Extract<Command, { kind: 'verify' }>): Promise<void> {
    const user = this.#user(one.user);
    const purpose = 'pq'[one.purpose]!;
    const client = this.#client(one.address, user, one.device);
    const model = this.#model;
    const device = model.deviceOf(user, purpose, client.tokens);
    const newest = model.newest(user, purpose, device) ?? '123456';
    const name = this.#pairName(user, purpose, client);
    const ofPair = this.#sent.filter(({ pair }) => pair === name);
    const code = { right: newest, wrong: wrongCode(newest), earlier: ofPair.at(-2)?.code,
      old: this.#sent.at(-2)?.code, other: this.#sent.at(-1)?.code }[one.code]
      ?? wrongCode(newest, 1);
    const otpId = one.otp === 'none' ? null : { newest: ofPair.at(-1)?.id,
      earlier: ofPair.at(-2)?.id, oldest: ofPair[0]?.id, last: this.#sent.at(-1)?.id,
      unknown: undefined }[one.otp] ?? UNKNOWN_ID;
    const key = one.key === 0 ? null : this.#key(one.key);
    const expected = model.verify(user, purpose, code, key, client, otpId);
    const body = { user_id: user, purpose, code, ...(otpId === null ? {} : { otp_id: otpId }) };
    const reply = await this.#post('verify', body, key, client);
    compare(reply, expected);
    if (typeof expected.token !== 'object') return;
    const text = reply.headers['otp-device'] as string;
    const token = { ...expected.token, device: parseDeviceToken(text).device };
    if (device === '') {
      const known = this.#tokens.map((other) => parseDeviceToken(other.text).device);
      assert.not(known.includes(token.device), 'a new device');
    }
    this.#tokens.push({ text, user });
    model.trust(text, token, key);
  }

  async #unlock(one: Extract<Command, { kind: 'unlock' }>): Promise<void> {
    const user = this.#user(one.user);
    const purpose = one.purpose === null ? null : 'pq'[one.purpose]!;
    this.#model.unlock(user, purpose);
    await unlockUser({ pool: database.pool, secrets, policies: this.#policies }, user, purpose);
  }

  async #revoke(one: Extract<Command, { kind: 'revoke' }>): Promise<void> {
    const user = this.#user(one.user);
    const [token] = one.device === 'all' ? [] : this.#tokensFor(user, one.device);
    const isDevice = token !== undefined && token !== 'test.';
    if (one.device !== 'all' && !isDevice) return;
    const device = isDevice ? parseDeviceToken(token).device : null;
    this.#model.revoke(user, device);
    await revokeDevices({ pool: database.pool, secrets }, user, device);
  }

  #post(path: string, body: object, key: string | null, { ip, tokens }: Client): Promise<Reply> {
    const { port } = this.#service;
    requests += 1;
    const headers = {
      ...(tokens.length === 0 ? {} : { 'Otp-Device': tokens.join(', ') }),
      ...(this.#hasApiKey ? { ...apiClients.headersOf('app'), 'X-Client-IP': ip } : {}),
    };
    const call = { port, path: `/otp/${path}`, body, key: key ?? undefined, headers };
    return decided(() => post(this.#hasApiKey ? call : { ...call, address: ip }));
  }
}

/** Compares a response with the one of the model, member by member. */
function compare(reply: Reply, expected: Expected): void {
  const { status, body, headers } = reply;
  if (expected.unsettled === 'removed' && status === 404) {
    assert.equal(body, { error: 'otp_not_found' });
    return;
  }
  assert.is(status, expected.status, `${reply.text} instead of ${JSON.stringify(expected)}`);
  const wanted = { ...expected.body };
  if (wanted.otp_id === null) wanted.otp_id = body.otp_id;
  assert.equal(body, wanted);
  assert.is(headers['retry-after'], expected.retryAfter?.toString(), 'Retry-After');
  assert.is(headers['idempotent-replayed'], expected.replayed ? 'true' : undefined, 'replayed');
  assert.is(headers.ratelimit, expected.limits, 'RateLimit');
  compareToken(headers['otp-device'] as string | undefined, expected.token);
}

function compareToken(text: string | undefined, expected: Expected['token']): void {
  if (typeof expected !== 'object') assert.is(text, expected, 'Otp-Device');
  else {
    const { device, issuedAt } = parseDeviceToken(text ?? '');
    assert.is(issuedAt * 1_000_000, expected.issuedAt, 'the time of the token');
    if (expected.device !== '') assert.is(device, expected.device, 'the device of the token');
  }
}

async function play(
  chosen: Numbers,
  hasApiKey: boolean,
  commands: readonly Command[],
): Promise<void> {
  histories += 1;
  if (now > LAST_NOW) {
    database.close();
    database = await createTestDatabase(2);
    now = FIRST_NOW;
  }
  const parsed = parsePolicies(JSON.stringify({ default: {
    lifetime_seconds: chosen.lifetime, user_limit: chosen.userLimit,
    address_limit: chosen.addressLimit, wrong_attempts: chosen.wrongAttempts,
    net_limit: chosen.netLimit, recipient_limit: chosen.recipientLimit,
    lock_seconds: chosen.lock, wrong_attempts_until_unlock: chosen.cap,
    wrong_codes_limit: chosen.wrongCodes, wrong_codes_net_limit: chosen.wrongCodesNet,
    device_days: chosen.deviceDays, devices_limit: chosen.devicesLimit,
    device_reserve: chosen.reserve,
  }, purposes: chosen.trusting === 'pq' ? {} : { q: { device_days: null } } }));
  if ('errors' in parsed) throw new Error(parsed.errors.join());
  const { policies } = parsed;
  const service = await startTestService({
    pool: database.pool, policies, secrets, ...(hasApiKey ? { apiKeys: apiClients.apiKeys } : {}),
  });
  database.clock.set(formatInstant(now));
  const name = `h${(histories + 8192).toString(16)}`;
  const history = new History(new Model(now, chosen), service, policies, { name, hasApiKey });
  try {
    for (const one of commands) await history.run(one);
  } finally {
    closeClient();
    await service.close();
  }
}

const LENGTH = SECONDS > 0 ? `${SECONDS} s of` : HISTORIES;

test(`${LENGTH} random histories agree with the model`, async () => {
  const commands = fc.array(command, { minLength: 1, maxLength: COMMANDS_MAX, size: 'max' });
  const property = fc.asyncProperty(numbers, fc.boolean(), commands, (chosen, hasApiKey, list) => {
    playing = play(chosen, hasApiKey, list);
    return playing;
  });
  const bound = SECONDS > 0 ? { interruptAfterTimeLimit: SECONDS * 1000 } : {};
  await fc.assert(property,
    { numRuns: HISTORIES, seed: SEED, includeErrorInReport: true, ...bound });
});

test.run();
