/** A batch of attempts leaves the rows that the same attempts leave one at a time. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VERIFY_ID_BYTES } from '../../src/db/tables/otps-write.ts';
import type { Delivery } from '../../src/otp/delivery/delivery.ts';
import type { OtpVerification, VerifyOutcome } from '../../src/otp/outcomes.ts';
import { createPolicies } from '../../src/otp/policy/policy.ts';
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

/** One service on its own database, in which each user has a code. */
class Side {
  readonly #database: TestDatabase;
  readonly #codes = new Map<string, string>();
  readonly #deps;
  readonly #delivery: Delivery;
  readonly #service: OtpService;

  constructor(database: TestDatabase) {
    this.#database = database;
    const { pool } = database;
    this.#deps = { pool, policies: createPolicies(), secrets: secretsOf(newSecretsText()) };
    this.#delivery = createTestDelivery({ ...this.#deps, channels: [channelOf((message) => {
      this.#codes.set(message.userId, message.code);
      return { kind: 'accepted' };
    })] });
    this.#service = createOtpService({
      ...this.#deps, sweeper: newSweeper(), delivery: this.#delivery,
    });
  }

  setClock(time: string): void {
    this.#database.clock.set(`2026-01-05 ${time}`);
  }

  async request(userId: string): Promise<void> {
    this.#codes.delete(userId);
    const input = { userId, purpose: 'login', clientIp: freshAddress(), clientNet48: null,
      key: fresh('k'),
      apiClient: null, acceptLanguage: '' };
    assert.is((await this.#service.request(input, () => true)).kind, 'issued');
    await eventually('the message', () => this.#codes.has(userId));
  }

  attempt(userId: string, word: string, index: number): OtpVerification {
    const code = this.#codes.get(userId)!;
    return { userId, purpose: 'login', code: word === 'right' ? code : wrongCode(code, index),
      clientIp: null, clientNet48: null, key: null, apiClient: null };
  }

  verify(inputs: readonly OtpVerification[]): Promise<VerifyOutcome[]> {
    return verifyOtps(this.#deps, inputs);
  }

  async rowsOf(userId: string): Promise<readonly object[]> {
    return this.#database.query(
      `SELECT ${FIELDS} FROM otps WHERE user_id = ? ORDER BY number`, [userId]);
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

test.run();
