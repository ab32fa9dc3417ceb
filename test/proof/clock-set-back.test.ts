/**
 * The clock of the database was ahead and is right again, or was set back: nobody is kept out for
 * longer than the length of the limit or the lock, and each wait that an answer names is true.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatInstant, parseInstant } from '../../src/db/instant.ts';
import { parsePolicies } from '../../src/otp/policy/policy-file.ts';
import { closeClient, post, send } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { newSecretsText, secretsOf, startTestService } from '../harness/service.ts';
import type { TestService } from '../harness/service.ts';
import { eventually } from '../harness/waiting.ts';
import { fresh, freshAddress, wrongCode } from './load.ts';

const NOW = parseInstant('2026-01-05 08:00:00.000000');
const SECOND = 1_000_000;
const HOUR = 3600 * SECOND;

/** How far ahead the clock was. */
const AHEAD: readonly [string, number][] = [
  ['a second', SECOND], ['an hour', HOUR], ['70 minutes', 70 * 60 * SECOND],
  ['three years', 3 * 365 * 24 * HOUR],
];

let database: TestDatabase;
let service: TestService;

function setClock(instant: number): void {
  database.clock.set(formatInstant(instant));
}

async function start(policy: object = {}): Promise<void> {
  const parsed = parsePolicies(JSON.stringify({ default: policy }));
  if ('errors' in parsed) throw new Error(parsed.errors.join('; '));
  const secrets = secretsOf(newSecretsText());
  const { policies } = parsed;
  service = await startTestService({ pool: database.pool, secrets, policies });
}

test.before(async () => { database = await createTestDatabase(); });
test.after.each(() => service.close());
test.after(() => {
  closeClient();
  database.close();
});

type Ask = Readonly<{ user?: string; address?: string; purpose?: string; key?: string }>;

function request(ask: Ask = {}): Promise<Reply> {
  const { user = fresh('u'), address = freshAddress(), purpose = 'login', key = fresh('k') } = ask;
  const body = { user_id: user, purpose };
  return post({ port: service.port, path: '/otp/request', key, address, body });
}

function verify({ user, address = freshAddress() }: Ask, code: string): Promise<Reply> {
  const body = { user_id: user, purpose: 'login', code };
  return post({ port: service.port, path: '/otp/verify', address, body });
}

async function codeOf({ body }: Reply): Promise<string> {
  const find = () => service.messages.find(({ otpId }) => otpId === body.otp_id);
  await eventually('the message is sent', () => find() !== undefined);
  return find()!.code;
}

function secondsOf({ status, body }: Reply): number {
  assert.is(status, 429, JSON.stringify(body));
  return Number(body.remaining_cooldown_seconds ?? body.retry_after_seconds);
}

/**
 * Asks from NOW on, when the answer is a refusal, until the time that it names. The time passes
 * however often somebody asks.
 */
async function assertWaitIsTrue(
  ask: () => Promise<Reply>,
  longest: number,
  isEnd: (reply: Reply) => boolean = ({ status }) => status === 201,
): Promise<void> {
  setClock(NOW);
  const seconds = secondsOf(await ask());
  assert.ok(seconds > 0 && seconds <= longest, `${seconds} s`);
  for (const passed of [0.25, 0.5, seconds / 2, seconds - 1]) {
    setClock(NOW + Math.floor(passed * SECOND));
    assert.is(secondsOf(await ask()), Math.ceil(seconds - passed), `${passed} s later`);
  }
  setClock(NOW + seconds * SECOND);
  const end = await ask();
  assert.ok(isEnd(end), `${end.status} ${end.text}`);
}

for (const [words, ahead] of AHEAD) {
  test(`the points of a user that were taken ${words} ahead are free after 900 s`, async () => {
    await start();
    const user = fresh('u');
    setClock(NOW + ahead);
    for (const purpose of ['a', 'b', 'c']) {
      assert.is((await request({ user, purpose })).status, 201);
    }
    assert.is((await request({ user })).status, 429);
    await assertWaitIsTrue(() => request({ user }), 900);
  });

  test(`a lock that began ${words} ahead ends after 600 s`, async () => {
    await start();
    const user = fresh('u');
    setClock(NOW + ahead);
    const code = await codeOf(await request({ user }));
    for (const index of [0, 1, 2]) await verify({ user }, wrongCode(code, index));
    await assertWaitIsTrue(() => verify({ user }, code), 600, ({ status }) => status === 410);
    assert.is((await request({ user })).status, 201);
  });

  test(`a request tells the end of a lock that began ${words} ahead`, async () => {
    await start();
    const user = fresh('u');
    setClock(NOW + ahead);
    const code = await codeOf(await request({ user }));
    for (const index of [0, 1, 2]) await verify({ user }, wrongCode(code, index));
    assert.is((await request({ user })).status, 429);
    await assertWaitIsTrue(() => request({ user }), 600);
  });

  test(`wrong attempts made ${words} ahead no longer count after 600 s`, async () => {
    await start();
    const user = fresh('u');
    setClock(NOW + ahead);
    const early = await codeOf(await request({ user }));
    for (const index of [0, 1]) await verify({ user }, wrongCode(early, index));
    setClock(NOW);
    assert.is((await request({ user })).status, 201);
    setClock(NOW + 600 * SECOND);
    const code = await codeOf(await request({ user }));
    assert.is((await verify({ user }, wrongCode(code))).body.attempts_remaining, 2);
  });

  test(`the points of a client IP that were taken ${words} ahead are free after 900 s`,
    async () => {
      await start();
      const address = freshAddress();
      setClock(NOW + ahead);
      for (let count = 0; count < 8; count += 1) await request({ address });
      assert.is((await request({ address })).status, 429);
      await assertWaitIsTrue(() => request({ address }), 900);
    });

  test(`points in the overflow of a client IP, taken ${words} ahead, are free after 900 s`,
    async () => {
      await start({ address_limit: 40 });
      const address = freshAddress();
      setClock(NOW - 899 * SECOND);
      for (let count = 0; count < 2; count += 1) await request({ address });
      for (let count = 0; count < 38; count += 1) {
        setClock(NOW + ahead + count);
        assert.is((await request({ address })).status, 201);
      }
      const [row] = await database.query(
        'SELECT COUNT(*) AS n FROM ip_rate_overflow WHERE address = ?', [address]);
      assert.ok(Number(row?.n) > 0 || ahead > 900 * SECOND);
      setClock(NOW);
      for (let count = 0; count < 50; count += 1) {
        const { status } = await request({ address });
        if (status === 429) break;
        assert.is(status, 201);
      }
      setClock(NOW + 900 * SECOND);
      assert.is((await request({ address })).status, 201);
    });

  for (const [limit, policy, window, ask] of [
    ['user_daily_limit', { user_daily_limit: 2 }, 86_400, () => ({ user: 'Udaily' })],
    ['destination_limit', { destination_limit: 2 }, 3600,
      (index: number) => ({ user: `+49170123000${index}` })],
  ] as const) {
    test(`hits of ${limit} that were counted ${words} ahead end with its window`, async () => {
      await start(policy);
      await database.query('DELETE FROM limit_hits');
      await database.query('DELETE FROM otps');
      setClock(NOW + ahead);
      for (const index of [0, 1]) assert.is((await request(ask(index))).status, 201);
      assert.is((await request(ask(2))).status, 429);
      await assertWaitIsTrue(() => request(ask(2)), window);
    });
  }

  test(`wrong codes of a client IP that were counted ${words} ahead end with their window`,
    async () => {
      await start({ wrong_codes_limit: 2 });
      const [user, address] = [fresh('u'), freshAddress()];
      setClock(NOW + ahead);
      const code = await codeOf(await request({ user }));
      for (const index of [0, 1]) {
        assert.is((await verify({ user, address }, wrongCode(code, index))).status, 401);
      }
      const other = fresh('u');
      await assertWaitIsTrue(() => verify({ user: other, address }, '000000'), 3600,
        ({ status }) => status === 404);
    });

  test(`a code that was issued ${words} ahead works for 300 s, and its key for 24 h`, async () => {
    await start();
    const [user, key] = [fresh('u'), fresh('k')];
    setClock(NOW + ahead);
    const first = await request({ user, key });
    const code = await codeOf(first);
    setClock(NOW);
    const repeat = await request({ user, key });
    assert.equal([repeat.text, repeat.headers['idempotent-replayed']], [first.text, 'true']);
    assert.is((await verify({ user }, wrongCode(code))).status, 401);
    setClock(NOW + 299 * SECOND);
    assert.is((await verify({ user }, wrongCode(code))).status, 401);
    setClock(NOW + 300 * SECOND);
    assert.is((await verify({ user }, code)).status, 410);
    const status = await send({ method: 'GET', port: service.port,
      path: `/otp/${String(first.body.otp_id)}` });
    assert.is(status.body.status, 'expired');
    setClock(NOW + 24 * HOUR - 1);
    assert.is((await request({ user, key })).text, first.text);
    setClock(NOW + 24 * HOUR);
    const next = await request({ user, key });
    assert.equal([next.status, next.headers['idempotent-replayed']], [201, undefined]);
  });

  test(`a key that was used ${words} ahead works for 24 h when its OTP is gone`, async () => {
    await start();
    const [user, key] = [fresh('u'), fresh('k')];
    setClock(NOW + ahead - 901 * SECOND);
    const first = await request({ user, key });
    setClock(NOW + ahead);
    assert.is((await request({ user })).status, 201);
    setClock(NOW - 901 * SECOND);
    assert.is((await request({ user, key })).text, first.text);
    setClock(NOW - 901 * SECOND + 24 * HOUR - 1);
    assert.is((await request({ user, key })).text, first.text);
    setClock(NOW - 901 * SECOND + 24 * HOUR);
    const next = await request({ user, key });
    assert.equal([next.status, next.headers['idempotent-replayed']], [201, undefined]);
  });
}

test.run();
