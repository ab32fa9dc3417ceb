/**
 * A batch of attempts leaves the rows that the same attempts leave one at a time.
 * OTPD_TEST_HISTORIES and OTPD_TEST_SEED are as for the model.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import fc from 'fast-check';
import { addSeconds, formatInstant, parseInstant } from '../../src/db/instant.ts';
import { VERIFY_ID_BYTES } from '../../src/db/tables/otps-write.ts';
import type { Message } from '../../src/otp/channels/channel.ts';
import type { Delivery } from '../../src/otp/delivery/delivery.ts';
import type { OtpVerification, VerifyOutcome } from '../../src/otp/outcomes.ts';
import { createPolicies, DEFAULT_POLICY } from '../../src/otp/policy/policy.ts';
import type { Policy } from '../../src/otp/policy/policy.ts';
import { createOtpService } from '../../src/otp/service.ts';
import type { OtpService } from '../../src/otp/service.ts';
import { verifyOtps } from '../../src/otp/verify/verify.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { channelOf, createTestDelivery } from '../harness/delivery.ts';
import { newSecretsText, newSweeper, secretsOf } from '../harness/service.ts';
import { eventually } from '../harness/waiting.ts';
import { fresh, freshAddress, wrongCode } from './load.ts';

const FIELDS = `number, redeemed_at, digest IS NULL AS is_erased, wrong_attempts, last_wrong_at,
  locked_until, consecutive_wrong, LENGTH(verify_ids) AS bytes, channel, close_reason, is_refunded`;

/** The responses under keys, and what the limit has counted, whatever the rows of its hits. */
const KEYS = `SELECT HEX(key_digest) AS k, expires_at FROM idempotency_keys WHERE expires_at >= ?
  ORDER BY k`;
const HITS = `SELECT subject, kind, SUM(points) AS points FROM limit_hits WHERE subject IN (?, ?, ?)
  GROUP BY subject, kind ORDER BY subject, kind`;

const LATER = parseInstant('2026-01-06 08:00:00.000000');

/** So small that a batch exhausts it. */
const WRONG_CODES_LIMIT = 4;

const HISTORIES = Math.ceil(Number(process.env.OTPD_TEST_HISTORIES ?? 300) / 10);
const SEED = Number(process.env.OTPD_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));

/**
 * The attempts of each user: an hour earlier with another code, a minute earlier, and in the batch.
 */
const USERS: readonly (readonly [longAgo: string, before: string, now: string])[] = [
  ['wrong wrong right', '', 'right'], ['wrong wrong right', '', 'wrong'],
  ['wrong wrong wrong', '', 'right'], ['wrong wrong wrong', '', 'wrong'],
  ['wrong wrong', 'wrong', 'wrong'],
  ['', '', 'right'], ['', '', 'right'], ['', '', 'wrong'], ['', '', 'wrong'], ['', '', ''],
  ['', '', 'wrong right'], ['', 'wrong', 'right'], ['', 'wrong', 'wrong'],
  ['', 'wrong wrong', 'wrong'], ['', 'wrong wrong', 'right right'], ['', 'right', 'right'],
  ['', 'wrong', 'wrong right wrong'], ['', 'wrong wrong wrong', 'right'],
];

const NOBODY = Object.freeze({ clientIp: null, clientNet48: null, key: null });

/** One service on its own database, in which each user has a code. */
class Side {
  readonly #database: TestDatabase;
  /** The codes that each user was sent, the newest last. */
  readonly #sent = new Map<string, Message[]>();
  readonly #deps;
  readonly #delivery: Delivery;
  readonly #service: OtpService;

  constructor(database: TestDatabase, numbers: Partial<Policy> = {}) {
    this.#database = database;
    const { pool } = database;
    const policies = createPolicies({ ...DEFAULT_POLICY, wrongCodesLimit: WRONG_CODES_LIMIT,
      wrongCodesNetLimit: WRONG_CODES_LIMIT + 2, ...numbers });
    this.#deps = { pool, policies, secrets: secretsOf(newSecretsText()) };
    this.#delivery = createTestDelivery({ ...this.#deps, channels: [channelOf((message) => {
      this.#sent.set(message.userId, [...this.#sent.get(message.userId) ?? [], message]);
      return { kind: 'accepted' };
    })] });
    this.#service = createOtpService({
      ...this.#deps, sweeper: newSweeper(this.#deps), delivery: this.#delivery,
    });
  }

  setClock(time: string): void {
    this.#database.clock.set(`2026-01-05 ${time}`);
  }

  setSecond(second: number): void {
    this.#database.clock.set(formatInstant(addSeconds(LATER, second)));
  }

  async request(userId: string, deviceTokens = ''): Promise<void> {
    const count = this.#sent.get(userId)?.length ?? 0;
    const input = { userId, purpose: 'login', clientIp: freshAddress(), clientNet48: null,
      key: fresh('k'),
      apiClient: null, acceptLanguage: '', deviceTokens };
    assert.is((await this.#service.request(input, () => true)).kind, 'issued');
    await eventually('the message', () => this.#sent.get(userId)?.length === count + 1);
  }

  attempt(
    userId: string,
    word: string,
    index: number,
    by: Omit<OtpVerification, 'userId' | 'purpose' | 'code' | 'apiClient'> = NOBODY,
    bound: string | null = null,
  ): OtpVerification {
    const sent = this.#sent.get(userId)!;
    const { code } = sent.at(-1)!;
    const typed = word === 'right' ? code : word === 'earlier' ? sent.at(-2)!.code
      : wrongCode(code, index);
    const otpId = bound === null ? null : sent.at(bound === 'newest' ? -1 : -2)!.otpId;
    return { userId, purpose: 'login', code: typed, otpId, ...by, apiClient: null };
  }

  verify(inputs: readonly OtpVerification[]): Promise<VerifyOutcome[]> {
    return verifyOtps(this.#deps, inputs);
  }

  async rowsOf(userId: string): Promise<readonly object[]> {
    return this.#database.query(
      `SELECT ${FIELDS} FROM otps WHERE user_id = ? ORDER BY number`, [userId]);
  }

  rows(sql: string, values: readonly string[]): Promise<readonly object[]> {
    return this.#database.query(sql, values);
  }

  async close(): Promise<void> {
    await this.#delivery.stop(2000);
    this.#database.close();
  }
}

let sides: readonly [Side, Side];

test.before(async () => {
  sides = [new Side(await createTestDatabase()), new Side(await createTestDatabase())];
});
test.after(async () => { for (const side of sides) await side.close(); });

const wordsOf = (text: string): string[] => text.split(' ').filter((word) => word !== '');

/** Runs the attempts before the batch. */
async function prepare(side: Side, users: readonly string[]): Promise<void> {
  for (const [index, userId] of users.entries()) {
    const [longAgo, before] = USERS[index]!;
    for (const [time, words] of [['07:00', longAgo], ['08:00', before]] as const) {
      if (time === '07:00' && words === '') continue;
      side.setClock(`${time}:00`);
      await side.request(userId);
      for (const [nth, word] of wordsOf(words).entries()) {
        side.setClock(`${time}:0${1 + nth}`);
        await side.verify([side.attempt(userId, word, nth)]);
      }
    }
  }
  side.setClock('08:01:00');
}

test('attempts in one transaction leave the same rows as attempts in many', async () => {
  const users = USERS.map(() => fresh('u'));
  for (const side of sides) await prepare(side, users);
  const [together, apart] = sides;
  const attempts = (side: Side): OtpVerification[] => users.flatMap((userId, index) =>
    wordsOf(USERS[index]![2]).map((word, nth) => side.attempt(userId, word, 10 + nth)));
  const outcomes = await together.verify(attempts(together));
  const others: VerifyOutcome[] = [];
  for (const one of attempts(apart)) others.push(...await apart.verify([one]));
  assert.equal(outcomes, others);
  assert.equal(new Set(outcomes.map(({ kind }) => kind)),
    new Set(['verified', 'wrong', 'locked', 'used']));
  for (const [index, userId] of users.entries()) {
    const rows = await together.rowsOf(userId);
    const expected = (await apart.rowsOf(userId)).map((row) => withOneName(row, USERS[index]![2]));
    assert.equal(rows, expected, USERS[index]!.join(', then '));
  }
});

/** Attempts of one transaction share one verify id; single attempts have one each. */
function withOneName(row: object, now: string): object {
  const { bytes } = row as { bytes: number };
  return { ...row, bytes: now.startsWith('wrong right') ? bytes - VERIFY_ID_BYTES : bytes };
}

type Attempt = { user: number; word: string; nth: number; bound: string | null; address: number;
  key: number | null };

const attempts: fc.Arbitrary<Attempt[]> = fc.array(fc.record({
  user: fc.constantFrom(0, 0, 1, 2), word: fc.constantFrom('right', 'wrong', 'wrong', 'earlier'),
  bound: fc.constantFrom(null, null, 'newest', 'earlier'),
  nth: fc.constantFrom(0, 1), address: fc.constantFrom(0, 0, 1),
  key: fc.constantFrom(null, null, 0, 1),
}), { minLength: 1, maxLength: 24, size: 'max' });

test('attempts with keys that one transaction decides count like attempts in many', async () => {
  const kinds = new Set<string>();
  let history = 0;
  await fc.assert(fc.asyncProperty(attempts, attempts, async (before, batch) => {
    history += 1;
    const users = [0, 1, 2].map(() => fresh('u'));
    const addresses = [0, 1].map(freshAddress);
    const keys = [0, 1].map(() => fresh('k'));
    const net = fresh('net');
    const inputs = (side: Side, list: Attempt[]): OtpVerification[] =>
      list.map(({ user, word, nth, bound, address, key }) => side.attempt(users[user]!, word, nth,
        { clientIp: addresses[address]!, clientNet48: net, key: keys[key ?? -1] ?? null }, bound));
    const outcomes: VerifyOutcome[][] = [];
    for (const side of sides) {
      side.setSecond(history * 3600);
      for (let nth = 0; nth < 2; nth += 1) {
        await Promise.all(users.map((user) => side.request(user)));
      }
      for (const one of inputs(side, before.slice(0, 4))) await side.verify([one]);
      side.setSecond(history * 3600 + 1);
      const all = inputs(side, batch);
      if (side === sides[0]) outcomes.push(await side.verify(all));
      else outcomes.push((await inTurn(all, (one) => side.verify([one]))).flat());
    }
    assert.equal(outcomes[0], outcomes[1]);
    const [together, apart] = sides;
    const start = formatInstant(addSeconds(LATER, history * 3600));
    for (const [sql, values] of [[KEYS, [start]], [HITS, [...addresses, net]]] as const) {
      assert.equal(await together.rows(sql, values), await apart.rows(sql, values));
    }
    for (const user of users) {
      const [rows, expected] = [await together.rowsOf(user), await apart.rowsOf(user)];
      assert.equal(rows.map(withoutIds), expected.map(withoutIds));
    }
    for (const { kind } of outcomes[0]!) kinds.add(kind);
  }), { numRuns: HISTORIES, seed: SEED, includeErrorInReport: true });
  for (const kind of ['verified', 'wrong', 'locked', 'used', 'limited', 'key_reused',
    'superseded']) {
    assert.ok(kinds.has(kind), kind);
  }
});

test('one transaction locks the accounts of several users, each once', async () => {
  const [side] = sides;
  side.setSecond((HISTORIES + 1) * 3600);
  const users = [fresh('u'), fresh('u'), fresh('u')];
  for (const user of users) await side.request(user);
  await side.rows('UPDATE otps SET consecutive_wrong = 99 WHERE user_id IN (?, ?, ?)', users);
  const before = await side.rows(LOCKS, []);
  const outcomes = await side.verify(users.flatMap((user) =>
    [1, 2].map((index) => side.attempt(user, 'wrong', index))));
  assert.equal(outcomes, users.flatMap(() =>
    [true, false].map((begins) => ({ kind: 'account_locked', begins }))));
  assert.equal([before.length, (await side.rows(LOCKS, [])).length], [0, 3]);
  const next = await side.verify(users.map((user) => side.attempt(user, 'right', 0)));
  assert.equal(new Set(next.map(({ kind }) => kind)), new Set(['account_locked']));
});

test('a success on a device ends no lock that its batch has begun for strangers', async () => {
  const side = new Side(await createTestDatabase(), { deviceDays: 30, deviceReserve: 30 });
  try {
    side.setClock('08:00:00');
    const user = fresh('u');
    await side.request(user);
    const [first] = await side.verify([side.attempt(user, 'right', 0)]);
    const deviceTokens = first?.kind === 'verified' ? first.deviceToken! : '';
    await side.request(user);
    const [wrong, right] = ['wrong', 'right'].map((word) => side.attempt(user, word, 0));
    await side.request(user, deviceTokens);
    const device = { ...NOBODY, deviceTokens };
    await side.verify([side.attempt(user, 'wrong', 0, device)]);
    await side.rows(`UPDATE otps SET consecutive_wrong = 68
      WHERE user_id = ? AND device = '' AND digest IS NOT NULL`, [user]);
    const batch = [wrong!, side.attempt(user, 'right', 0, device), right!];
    const kinds = (await side.verify(batch)).map(({ kind }) => kind);
    assert.equal(kinds, ['account_locked', 'verified', 'account_locked']);
    assert.equal((await side.verify([right!])), [{ kind: 'account_locked', begins: false }]);
  } finally {
    await side.close();
  }
});

const LOCKS = 'SELECT * FROM wrong_counts WHERE consecutive_wrong = 65535';

function withoutIds(row: object): object {
  return { ...row, bytes: null };
}

async function inTurn<T, R>(list: readonly T[], work: (one: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const one of list) results.push(await work(one));
  return results;
}

test.run();
