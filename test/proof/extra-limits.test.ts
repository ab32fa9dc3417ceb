/** The optional limits (docs/policy.md), to the microsecond, on a real database. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addSeconds, formatInstant, parseInstant } from '../../src/db/instant.ts';
import type { Message } from '../../src/otp/channels/channel.ts';
import type { Delivery } from '../../src/otp/delivery/delivery.ts';
import { OtpCounts } from '../../src/otp/metrics.ts';
import type { RequestOutcome, VerifyOutcome } from '../../src/otp/outcomes.ts';
import { parsePolicies } from '../../src/otp/policy/policy-file.ts';
import { createOtpService } from '../../src/otp/service.ts';
import type { OtpService } from '../../src/otp/service.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { channelOf, createTestDelivery } from '../harness/delivery.ts';
import { newSecretsText, newSweeper, secretsOf } from '../harness/service.ts';
import { eventually } from '../harness/waiting.ts';
import { fresh, freshAddress, wrongCode } from './load.ts';

const HOUR = 3600;
const DAY = 86_400;

let database: TestDatabase;
let start = parseInstant('2026-01-05 08:00:00.000000');
const deliveries: Delivery[] = [];

test.before(async () => { database = await createTestDatabase(); });
test.before.each(() => {
  start = addSeconds(start, 10 * DAY);
  setClock(0);
});
test.after(async () => {
  await Promise.all(deliveries.map((delivery) => delivery.stop(2000)));
  database.close();
});

function setClock(seconds: number): void {
  database.clock.set(formatInstant(start + Math.round(seconds * 1_000_000)));
}

/** Two services in place of two processes, with one set of counters. */
class Services {
  readonly counts = new OtpCounts();
  readonly #services: OtpService[];
  readonly #messages: Message[] = [];
  #turn = 0;

  constructor(policy: object) {
    const parsed = parsePolicies(JSON.stringify(policy));
    if ('errors' in parsed) throw new Error(parsed.errors.join('; '));
    const { policies } = parsed;
    const deps = { pool: database.pool, policies, secrets: secretsOf(newSecretsText()) };
    const channels = [channelOf((message) => {
      this.#messages.push(message);
      return { kind: 'accepted' };
    })];
    const delivery = createTestDelivery({ ...deps, channels });
    deliveries.push(delivery);
    const { counts } = this;
    this.#services = [0, 1].map(() =>
      createOtpService({ ...deps, delivery, sweeper: newSweeper(deps), counts }));
  }

  request(
    userId: string,
    part: { purpose?: string; address?: string } = {},
  ): Promise<RequestOutcome> {
    const { purpose = fresh('p'), address = freshAddress() } = part;
    const input = {
      userId, purpose, clientIp: address, clientNet48: null,
      key: fresh('k'), apiClient: null, acceptLanguage: '',
    };
    return this.#next().request(input, () => true);
  }

  async code(userId: string, purpose: string): Promise<string> {
    const outcome = await this.request(userId, { purpose });
    assert.is(outcome.kind, 'issued');
    const find = () => this.#messages.find(({ otpId }) =>
      outcome.kind === 'issued' && otpId === outcome.otpId);
    await eventually('the message', () => find() !== undefined);
    return find()!.code;
  }

  verify(
    userId: string,
    purpose: string,
    code: string,
    address: string | null,
    clientNet48: string | null = null,
    key: string | null = null,
  ): Promise<VerifyOutcome> {
    const input = { userId, purpose, code, clientIp: address, clientNet48, key, apiClient: null };
    return this.#next().verify(input, () => true);
  }

  #next(): OtpService {
    this.#turn += 1;
    return this.#services[this.#turn % this.#services.length]!;
  }
}

/** The kind of an outcome, with the seconds of a refusal. */
function describe(outcome: RequestOutcome | VerifyOutcome): string {
  return outcome.kind === 'limited' ? `limited ${outcome.retryAfterSeconds}` : outcome.kind;
}

test('a code of the daily limit of a user is free again exactly a day later', async () => {
  const services = new Services({ default: { user_daily_limit: 4 } });
  const user = fresh('u');
  const outcomes: string[] = [];
  for (const second of [0, 1000, 2000, 3000]) {
    setClock(second);
    outcomes.push(describe(await services.request(user)));
  }
  assert.equal(outcomes, ['issued', 'issued', 'issued', 'issued']);
  // [seconds, outcome]: the second refusal in a row is decided without a lock.
  const rows: [number, string][] = [
    [10_000, `limited ${DAY - 10_000}`], [10_000, `limited ${DAY - 10_000}`],
    [DAY - 0.000001, 'limited 1'], [DAY, 'issued'], [DAY, 'limited 1000'],
    [DAY + 999.999999, 'limited 1'], [DAY + 1000, 'issued'], [DAY + 1000, 'limited 1000'],
  ];
  for (const [second, expected] of rows) {
    setClock(second);
    assert.is(describe(await services.request(user)), expected, String(second));
  }
  assert.is(services.counts.limited.user_daily, 6);
  assert.is(services.counts.limited.user, 0);
});

test('the destination limit counts by first digits or domain over all users', async () => {
  const services = new Services({ default: { destination_limit: 3, destination_digits: 4 } });
  const region = `+49${String(start).slice(5, 7)}`;
  const rows: [number, string, string][] = [
    [0, `${region}0000001`, 'issued'], [1, `${region}0000002`, 'issued'],
    [2, `${region}0000003`, 'issued'], [3, `${region}0000004`, `limited ${HOUR - 3}`],
    [3, `${region}0000005`, `limited ${HOUR - 3}`], [3, '+12125550000', 'issued'],
    [4, 'a@Some.example', 'issued'], [4, 'b@some.EXAMPLE', 'issued'],
    [4, 'c@some.example', 'issued'], [4, 'd@some.example', `limited ${HOUR}`],
    [4, 'a@other.example', 'issued'], [4, fresh('u'), 'issued'],
    [HOUR - 0.000001, `${region}0000006`, 'limited 1'], [HOUR, `${region}0000006`, 'issued'],
    [HOUR, `${region}0000007`, 'limited 1'],
  ];
  for (const [second, userId, expected] of rows) {
    setClock(second);
    assert.is(describe(await services.request(userId)), expected, `${second} ${userId}`);
  }
});

test('a refusal by one limit uses no point of any, and names the longest wait', async () => {
  const services = new Services({
    default: { user_limit: 2, user_daily_limit: 3, destination_limit: 4 },
  });
  const [one, other] = ['a@both.example', 'b@both.example'];
  assert.is(describe(await services.request(one)), 'issued');
  setClock(10);
  assert.is(describe(await services.request(one)), 'issued');
  for (let time = 0; time < 5; time += 1) {
    assert.is(describe(await services.request(one)), 'limited 890');
  }
  setClock(900);
  assert.is(describe(await services.request(one)), 'issued');
  assert.is(describe(await services.request(one)), `limited ${DAY - 900}`);
  assert.is(describe(await services.request(other)), 'issued');
  assert.is(describe(await services.request(other)), `limited ${HOUR - 900}`);
  setClock(HOUR);
  assert.is(describe(await services.request(other)), 'issued');
  assert.is(describe(await services.request(one)), `limited ${DAY - HOUR}`);
});

test('simultaneous requests through two services get exactly the limit, each day', async () => {
  const services = new Services({ default: { user_daily_limit: 10, user_limit: 1000 } });
  const user = fresh('u');
  const issued = async (): Promise<number> => {
    const outcomes = await Promise.all(Array.from({ length: 40 }, () => services.request(user)));
    return outcomes.filter(({ kind }) => kind === 'issued').length;
  };
  assert.is(await issued(), 10);
  setClock(DAY - 0.000001);
  assert.is(await issued(), 0);
  setClock(DAY);
  assert.is(await issued(), 10);
});

test('a purpose with a smaller limit shares the count with all others', async () => {
  const services = new Services({
    default: { user_limit: 1000 },
    purposes: { pay: { user_daily_limit: 3 }, big: { user_daily_limit: 5 } },
  });
  const user = fresh('u');
  const outcomes: string[] = [];
  for (const purpose of ['login', 'pay', 'login', 'pay', 'big', 'big', 'big', 'pay', 'login']) {
    setClock(outcomes.length);
    outcomes.push(describe(await services.request(user, { purpose })));
  }
  assert.equal(outcomes, ['issued', 'issued', 'issued', `limited ${DAY - 3}`, 'issued', 'issued',
    `limited ${DAY - 6}`, `limited ${DAY - 7 + 2}`, 'issued']);
});

test('a client IP without wrong codes left has no code compared and changes nothing', async () => {
  const services = new Services({ default: { wrong_codes_limit: 4 } });
  const address = freshAddress();
  const users = [fresh('u'), fresh('u'), fresh('u')];
  const codes = await Promise.all(users.map((user) => services.code(user, 'login')));
  const attempt = (who: number, isRight: boolean, from: string | null = address) => {
    const code = isRight ? codes[who]! : wrongCode(codes[who]!);
    return services.verify(users[who]!, 'login', code, from).then(describe);
  };
  assert.is(await attempt(2, true), 'verified');
  assert.is(await attempt(0, false), 'wrong');
  setClock(1);
  assert.is(await attempt(0, false), 'wrong');
  assert.is(await attempt(0, false), 'locked');
  assert.is(await attempt(0, false), 'locked');
  assert.is(await attempt(1, false), 'wrong');
  const read = () => database.query('SELECT * FROM otps WHERE user_id = ?', [users[1]!]);
  const before = await read();
  assert.is(await attempt(1, true), `limited ${HOUR - 1}`);
  assert.is(await attempt(1, false), `limited ${HOUR - 1}`);
  assert.is(await attempt(0, false), `limited ${HOUR - 1}`, 'the lock is not reported');
  assert.equal(await read(), before);
  const tooLong = await services.verify(users[1]!, 'login', '1234567', address);
  assert.equal(describe(tooLong), 'malformed');
  assert.is(await attempt(1, true, freshAddress()), 'verified');
  assert.is(await attempt(1, true, null), 'used');
  assert.is(services.counts.limited.wrong_codes, 3);
  setClock(HOUR - 0.000001);
  assert.is(await attempt(1, true), 'limited 1');
  setClock(HOUR);
  assert.is(await attempt(1, true), 'used');
});

test('simultaneous guesses from one client IP are compared exactly up to the limit', async () => {
  const services = new Services({ default: { wrong_codes_limit: 7 } });
  const users = Array.from({ length: 20 }, () => fresh('u'));
  const codes = await Promise.all(users.map((user) => services.code(user, 'login')));
  const address = freshAddress();
  const outcomes = await Promise.all(users.map((user, index) =>
    services.verify(user, 'login', wrongCode(codes[index]!), address).then(describe)));
  assert.is(outcomes.filter((expected) => expected === 'wrong').length, 7);
  assert.is(outcomes.filter((expected) => expected === `limited ${HOUR}`).length, 13);
});

/** The counts that are not 0, by limit. */
function nonZero(counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0));
}

test('a shadow limit counts and reports, and refuses nothing', async () => {
  const services = new Services({ default: {
    user_limit: { limit: 1, shadow: true }, address_limit: { limit: 2, shadow: true },
    user_daily_limit: { limit: 3, shadow: true }, destination_limit: 5,
    wrong_codes_limit: { limit: 1, shadow: true },
  } });
  const user = 'shadow@shadow.example';
  const address = freshAddress();
  const left: unknown[] = [];
  for (let time = 0; time < 5; time += 1) {
    const outcome = await services.request(user, { address });
    assert.is(outcome.kind, 'issued');
    if (outcome.kind !== 'issued') return;
    left.push([outcome.remainingRequests, ...outcome.limits.map(({ limit }) => limit)]);
  }
  assert.equal(left, Array.from({ length: 5 }, () => [0, 'destination']));
  assert.is(describe(await services.request(user, { address })), `limited ${HOUR}`);
  const { limited, shadowed } = services.counts;
  assert.equal(nonZero(limited), { destination: 1 });
  assert.equal(nonZero(shadowed), { user: 5, address: 4, user_daily: 3 });
  const other = fresh('u');
  const code = await services.code(other, 'login');
  const outcomes = [wrongCode(code), wrongCode(code), code].map((given) => () =>
    services.verify(other, 'login', given, address).then(describe));
  for (const [index, expected] of ['wrong', 'wrong', 'verified'].entries()) {
    assert.is(await outcomes[index]!(), expected);
  }
  assert.is(services.counts.shadowed.wrong_codes, 2);
});

test('a purpose with a smaller limit of wrong codes names the time of its own point', async () => {
  const services = new Services({
    default: { wrong_codes_limit: 4 }, purposes: { big: { wrong_codes_limit: 9 } },
  });
  const address = freshAddress();
  const users = Array.from({ length: 3 }, () => fresh('u'));
  const codes = await Promise.all(users.map((user) => services.code(user, 'big')));
  const user = fresh('u');
  const code = await services.code(user, 'login');
  for (let second = 0; second < 6; second += 1) {
    setClock(second);
    const at = second % 3;
    const outcome = await services.verify(users[at]!, 'big', wrongCode(codes[at]!), address);
    assert.is(describe(outcome), 'wrong');
  }
  setClock(10);
  // The third of six points must leave the window, and then one wrong code more is allowed.
  assert.is(describe(await services.verify(user, 'login', code, address)), `limited ${HOUR - 8}`);
  assert.is(describe(await services.verify(users[0]!, 'big', codes[0]!, address)), 'verified');
  setClock(HOUR + 1.999999);
  assert.is(describe(await services.verify(user, 'login', code, address)), 'limited 1');
  setClock(HOUR + 2);
  assert.is(describe(await services.verify(user, 'login', code, address)), 'expired');
});

test('the wrong codes of a /48 are limited over its client IPs, and IPv4 has no /48', async () => {
  const services = new Services({ default: { wrong_codes_limit: 2, wrong_codes_net_limit: 5 } });
  const net = `2001:db8:${(start / 1_000_000 % 65_536).toString(16)}::/48`;
  const attempt = async (address: string, clientNet48: string | null, isRight = false) => {
    const user = fresh('u');
    const code = await services.code(user, 'login');
    const given = isRight ? code : wrongCode(code);
    return describe(await services.verify(user, 'login', given, address, clientNet48));
  };
  const ips = [1, 1, 1, 2, 2, 3, 3].map((host) => `${net}:${host}::/64`);
  const outcomes: string[] = [];
  for (const ip of ips) outcomes.push(await attempt(ip, net));
  const limited = `limited ${HOUR}`;
  assert.equal(outcomes, ['wrong', 'wrong', limited, 'wrong', 'wrong', 'wrong', limited]);
  assert.is(await attempt(`${net}:4::/64`, net, true), limited);
  assert.is(await attempt(`${net}:4::/64`, 'other::/48', true), 'verified');
  assert.is(await attempt(freshAddress(), null), 'wrong');
  const { limited: { wrong_codes: ofIp, wrong_codes_net: ofNet } } = services.counts;
  assert.equal([ofIp, ofNet], [1, 2]);
});

test('another use of a key counts like a wrong code, also beyond the limit', async () => {
  const services = new Services({ default: { wrong_codes_limit: 2 } });
  const address = freshAddress();
  const [user, other] = [fresh('u'), fresh('u')];
  const [code, open] = [await services.code(user, 'login'), await services.code(other, 'login')];
  const [key, lateKey] = [fresh('k'), fresh('k')];
  const attempt = (by: string, given: string, withKey: string | null = null) =>
    services.verify(by, 'login', given, address, null, withKey).then(describe);
  assert.is(await attempt(user, code, key), 'verified');
  assert.is(await attempt(user, wrongCode(code), key), 'key_reused');
  assert.is(await attempt(other, wrongCode(open)), 'wrong');
  assert.is(await attempt(other, open), `limited ${HOUR}`);
  assert.is(await attempt(user, code, key), `limited ${HOUR}`);
  setClock(1);
  const late = await services.code(user, 'late');
  const won = await services.verify(user, 'late', late, freshAddress(), null, lateKey);
  assert.is(describe(won), 'verified');
  assert.is(await attempt(other, open, lateKey), 'key_reused', 'beyond the limit');
  // Of three points the newest two must not both count.
  assert.is(await attempt(other, open), `limited ${HOUR - 1}`);
});

test('a right code reads few rows, however many wrong codes its client IP has sent', async () => {
  const services = new Services({ default: { wrong_codes_limit: { limit: 10, shadow: true } } });
  const address = freshAddress();
  const used = 20_000;
  const newest = start + used;
  const rows = Array.from({ length: used }, (_, index) =>
    `('${address}', 3, ${newest - index}, '${formatInstant(start)}', 1, NULL)`);
  await database.query(`INSERT INTO limit_hits VALUES
    ('${address}', 3, 0, '${formatInstant(start)}', 0, ${newest}), ${rows.join()}`);
  const user = fresh('u');
  const code = await services.code(user, 'login');
  const before = await database.rowsRead();
  assert.is(describe(await services.verify(user, 'login', code, address)), 'verified');
  const read = await database.rowsRead() - before;
  assert.ok(read < 500, `${read} rows were read`);
  assert.is(services.counts.shadowed.wrong_codes, 1);
});

test('a limit far beyond its quota still reports no point and the same reset', async () => {
  const services = new Services({ default: { address_limit: 100 },
    purposes: { pay: { address_limit: 2 } } });
  const address = freshAddress();
  for (let second = 0; second < 60; second += 1) {
    setClock(second);
    const outcome = await services.request(fresh('u'), { address });
    assert.is(outcome.kind, 'issued');
    const left = await services.request(fresh('u'), { address, purpose: 'pay' });
    const view = left.limits.find(({ limit }) => limit === 'address');
    if (second === 0) assert.is(left.kind, 'issued');
    else assert.equal([view?.quota, view?.remaining, view?.resetSeconds], [2, 0, 900 - second]);
  }
});

test('expired hits are erased by later ones, and swept without any', async () => {
  const services = new Services({ default: { destination_limit: 100, user_daily_limit: 9 } });
  const rowsOf = async (subject: string): Promise<number> => {
    const [row] = await database.query(
      'SELECT COUNT(*) AS n FROM limit_hits WHERE subject = ?', [subject]);
    return Number(row?.n);
  };
  for (let second = 0; second < 30; second += 1) {
    setClock(second);
    await services.request(`a${second}@busy.example`);
    await services.request(`a${second}@idle.example`);
  }
  assert.is(await rowsOf('busy.example'), 31);
  for (let round = 0; round < 30; round += 1) {
    setClock(HOUR + 100 + round);
    await services.request(`b${round}@busy.example`);
  }
  assert.is(await rowsOf('busy.example'), 31, '30 hits and the counter row');
  for (let round = 0; round < 400; round += 1) {
    setClock(2 * DAY + round);
    await Promise.all(Array.from({ length: 8 }, () => services.request(fresh('u'))));
    if (await rowsOf('idle.example') === 0 && await rowsOf('a1@idle.example') === 0) break;
  }
  assert.is(await rowsOf('idle.example'), 0);
  assert.is(await rowsOf('a1@idle.example'), 0);
  setClock(2 * DAY + 1000);
  for (let time = 0; time < 100; time += 1) await services.request(`c${time}@idle.example`);
  assert.is(describe(await services.request('d@idle.example')), `limited ${HOUR}`);
});

test('the cost of a hit does not depend on the number of hits', async () => {
  const services = new Services({ default: { destination_limit: 50_000 } });
  await services.request('a@many.example');
  const used = 20_000;
  const newest = start + 1000 + used;
  const rows = Array.from({ length: used }, (_, index) =>
    `('many.example', 2, ${newest - index}, '${formatInstant(start)}', 1, NULL)`);
  await database.query(`INSERT INTO limit_hits VALUES ${rows.join()}`);
  await database.query(
    `UPDATE limit_hits SET newest = ${newest} WHERE subject = 'many.example' AND number = 0`);
  const before = await database.rowsRead();
  assert.is(describe(await services.request('b@many.example')), 'issued');
  const read = await database.rowsRead() - before;
  // A step of the sweep may ride on the request, and reads a thousand rows a few times.
  assert.ok(read < used / 2, `${read} rows were read`);
});

test.run();
