/**
 * What is left of guesses for users that somebody invents: no row of an OTP for longer than a day,
 * a small count for 30 days, and a lock of the account until an operator unlocks it.
 */
import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatInstant, parseInstant } from '../../src/db/instant.ts';
import type { Secrets } from '../../src/otp/crypto/secrets.ts';
import { parsePolicies } from '../../src/otp/policy/policy-file.ts';
import { createPolicies } from '../../src/otp/policy/policy.ts';
import type { Policies } from '../../src/otp/policy/policy.ts';
import { unlockUser } from '../../src/otp/support.ts';
import { readUserReport } from '../../src/otp/user-report.ts';
import { closeClient, post } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { newSecretsText, secretsOf, startTestService } from '../harness/service.ts';
import type { TestService } from '../harness/service.ts';
import { eventually } from '../harness/waiting.ts';
import { atOnce, countByKind, decided, fresh, freshAddress, wrongCode } from './load.ts';

const START = parseInstant('2026-01-05 08:00:00.000000');
const HOUR = 3_600_000_000;
const DAY = 24 * HOUR;
/** 87,000 s, after which the row of an OTP expires. */
const OTP_LIFE = DAY + 600_000_000;
const MONTH = 30 * DAY;
const BATCH = 50;
/** The count of a row that locks an account. */
const LOCK = 65_535;

let database: TestDatabase;
let service: TestService;
let secretsText = '';
let now = START;

function setClock(instant: number): void {
  now = instant;
  database.clock.set(formatInstant(instant));
}

async function restart(text: string, policies: Policies = createPolicies()): Promise<void> {
  await service?.close();
  secretsText = text;
  service = await startTestService({ pool: database.pool, secrets: secretsOf(text), policies });
}

const secrets = (): Secrets => secretsOf(secretsText);

test.before.each(async () => {
  database = await createTestDatabase();
  await restart(newSecretsText());
  setClock(START);
});
test.after.each(async () => {
  await service.close();
  database.close();
});
test.after(closeClient);

type Pair = Readonly<{ user: string; purpose: string }>;

const newPair = (): Pair => ({ user: fresh('u'), purpose: 'login' });

function request({ user, purpose }: Pair): Promise<Reply> {
  const [key, address] = [fresh('k'), freshAddress()];
  return decided(() => post({ port: service.port, path: '/otp/request', key, address,
    body: { user_id: user, purpose } }));
}

function verify({ user, purpose }: Pair, code: string): Promise<Reply> {
  return post({ port: service.port, path: '/otp/verify', address: freshAddress(),
    body: { user_id: user, purpose, code } });
}

async function codeOf({ body }: Reply): Promise<string> {
  const find = () => service.messages.find(({ otpId }) => otpId === body.otp_id);
  await eventually('the message is sent', () => find() !== undefined);
  return find()!.code;
}

/** The report of an account that 5 wrong codes lock for everybody. */
const LOCKED = { wrongMax: 5, isLocked: true, untrustedMax: 5, isUntrustedLocked: true };

/** Requests a code and sends wrong ones. */
async function guess(pair: Pair, count: number): Promise<void> {
  const code = await codeOf(await request(pair));
  for (let index = 0; index < count; index += 1) await verify(pair, wrongCode(code, index));
}

/** Issues codes for new users until the sweep has been through every table. */
async function sweep(): Promise<void> {
  const [row] = await database.query('SELECT COUNT(*) AS n FROM otps');
  const [kept] = await database.query('SELECT COUNT(*) AS n FROM wrong_counts');
  const rows = Number(row?.n) + Number(kept?.n);
  for (let sent = 0; sent < 1200 + rows; sent += BATCH) {
    assert.equal(countByKind(await atOnce(BATCH, () => request(newPair()))), { 201: BATCH });
  }
}

async function rowsOf({ user }: Pair): Promise<number> {
  const [row] = await database.query('SELECT COUNT(*) AS n FROM otps WHERE user_id = ?', [user]);
  return Number(row?.n);
}

async function countsStored(): Promise<number[]> {
  const rows = await database.query('SELECT consecutive_wrong AS n FROM wrong_counts ORDER BY 1');
  return rows.map(({ n }) => Number(n));
}

async function bytesOf(table: string): Promise<number> {
  await database.query(`ANALYZE TABLE ${table}`);
  const [row] = await database.query(`SELECT data_length + index_length AS bytes
    FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?`, [table]);
  return Number(row?.bytes);
}

test('2,000 guesses for invented names leave small counts for 30 days, and then nothing',
  async () => {
    const names = Array.from({ length: 2000 }, (_, index): Pair => ({
      user: '\u{1F511}'.repeat(254) + String.fromCodePoint(0x20000 + index),
      purpose: '\u{1F512}'.repeat(100),
    }));
    for (let start = 0; start < names.length; start += BATCH) {
      const some = names.slice(start, start + BATCH);
      await Promise.all(some.map((pair) => guess(pair, 1)));
    }
    setClock(START + OTP_LIFE);
    await sweep();
    const [left] = await database.query('SELECT COUNT(*) AS n FROM otps WHERE created_at < ?',
      [formatInstant(START + OTP_LIFE)]);
    assert.is(Number(left?.n), 0);
    assert.equal(await countsStored(), Array.from(names, () => 1));
    const bytes = await bytesOf('wrong_counts');
    assert.ok(bytes <= 200_000, `${bytes} bytes`);
    setClock(START + MONTH - 1);
    await sweep();
    assert.is((await countsStored()).length, names.length);
    setClock(START + MONTH);
    await sweep();
    assert.equal(await countsStored(), []);
  });

test('a count goes on exactly when its OTP is gone', async () => {
  const pair = newPair();
  await guess(pair, 3);
  setClock(now + OTP_LIFE);
  await sweep();
  assert.is(await rowsOf(pair), 0);
  assert.equal(await countsStored(), [3]);
  assert.is((await verify(pair, '000000')).status, 404);
  await guess(pair, 1);
  assert.equal(await countsStored(), []);
  const [row] = await database.query('SELECT consecutive_wrong AS n FROM otps WHERE user_id = ?',
    [pair.user]);
  assert.is(row?.n, 4);
  const report = await readUserReport({ pool: database.pool, policies: createPolicies(),
    secrets: secrets() }, pair.user);
  assert.equal([report?.pairs[0]?.consecutiveWrong, report?.keptWrong], [4, []]);
});

test('a success ends a count, and an expired row counts before it is swept', async () => {
  const pair = newPair();
  await guess(pair, 2);
  setClock(now + OTP_LIFE);
  assert.is((await verify(pair, '000000')).status, 404);
  const code = await codeOf(await request(pair));
  const [row] = await database.query('SELECT consecutive_wrong AS n FROM otps WHERE user_id = ?',
    [pair.user]);
  assert.is(row?.n, 2);
  assert.is((await verify(pair, code)).status, 200);
  setClock(now + OTP_LIFE);
  await sweep();
  assert.equal([await rowsOf(pair), await countsStored()], [0, []]);
});

test('a request for one purpose keeps the expired count of another', async () => {
  const pair = newPair();
  await guess(pair, 2);
  setClock(now + OTP_LIFE);
  assert.is((await request({ ...pair, purpose: 'pay' })).status, 201);
  await sweep();
  assert.equal([await rowsOf(pair), await countsStored()], [1, [2]]);
});

function upTo(limit: number): Policies {
  const parsed = parsePolicies(JSON.stringify({ default: { wrong_attempts_until_unlock: limit } }));
  if ('errors' in parsed) throw new Error(parsed.errors.join());
  return parsed.policies;
}

test('a count that has reached its limit locks until an operator unlocks the pair', async () => {
  const policies = upTo(5);
  await restart(secretsText, policies);
  const [pair, other] = [newPair(), newPair()];
  await guess(pair, 3);
  await guess(other, 3);
  setClock(now + HOUR);
  await guess(pair, 2);
  setClock(now + MONTH);
  await sweep();
  await sweep();
  assert.equal([await rowsOf(pair), await countsStored()], [0, [5, LOCK]]);
  for (let round = 0; round < 2; round += 1) {
    // The second refusal comes from the screen, which locks nothing.
    const refused = await request(pair);
    assert.equal([refused.status, refused.body], [403, { error: 'account_locked' }]);
    assert.is((await verify(pair, '000000')).status, 403);
  }
  const deps = { pool: database.pool, secrets: secrets(), policies };
  const report = await readUserReport(deps, pair.user);
  assert.equal([report?.keptWrong, report?.account],
    [[5], { ...LOCKED, wrong: 5 }]);
  assert.is((await request({ ...pair, purpose: 'pay' })).status, 403);
  assert.is((await request(other)).status, 201);
  assert.is((await unlockUser(deps, pair.user, pair.purpose)).outcome, 'unlocked');
  assert.is((await unlockUser(deps, pair.user, pair.purpose)).outcome, 'unknown');
  assert.equal(await countsStored(), []);
  assert.is((await request(pair)).status, 201);
});

test('an account stays locked after the counts of its purposes are forgotten', async () => {
  const policies = upTo(5);
  await restart(secretsText, policies);
  const [login, pay] = [newPair(), newPair()].map((pair) => ({ ...pair, user: 'locked' }));
  const other = { ...pay!, purpose: 'pay' };
  await guess(login!, 3);
  setClock(now + MONTH - HOUR);
  await sweep();
  assert.equal(await countsStored(), [3]);
  await guess(other, 2);
  assert.equal(await countsStored(), [3, LOCK]);
  // The first count is a month old an hour later, and the second one is still with its OTP.
  setClock(now + HOUR);
  await sweep();
  assert.equal([await countsStored(), await rowsOf(other)], [[LOCK], 1]);
  setClock(now + 2 * MONTH);
  await sweep();
  await sweep();
  assert.equal([await countsStored(), await rowsOf(other)], [[LOCK], 0]);
  assert.equal(countByKind([await request(login!), await request({ ...other, purpose: 'x' }),
    await verify(other, '000000')]), { '403 account_locked': 3 });
  const deps = { pool: database.pool, secrets: secrets(), policies };
  const report = await readUserReport(deps, other.user);
  assert.equal([report?.account, report?.pairs, report?.keptWrong],
    [{ ...LOCKED, wrong: 0 }, [], []]);
  assert.equal((await unlockUser(deps, other.user, null)).outcome, 'unlocked');
  assert.equal((await unlockUser(deps, other.user, null)).outcome, 'unknown');
  assert.is((await request(login!)).status, 201);
});

test('a count is found under an earlier secret, and is written under the current one',
  async () => {
    const pair = newPair();
    await guess(pair, 3);
    setClock(now + OTP_LIFE);
    await sweep();
    const before = await database.query('SELECT user_digest FROM wrong_counts');
    const next = `next:${randomBytes(32).toString('base64')}`;
    await restart(`${next},${secretsText}`);
    await guess(pair, 1);
    setClock(now + OTP_LIFE);
    await sweep();
    assert.equal(await countsStored(), [4]);
    const after = await database.query('SELECT user_digest FROM wrong_counts');
    assert.not.equal(after, before);
    await restart(next);
    await guess(pair, 1);
    const [row] = await database.query('SELECT consecutive_wrong AS n FROM otps WHERE user_id = ?',
      [pair.user]);
    assert.is(row?.n, 5);
  });

test.run();
