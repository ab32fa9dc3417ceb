/**
 * The optimistic idempotency check on a real database: batches that skip the lookup of stored keys.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Delivery } from '../../src/otp/delivery/delivery.ts';
import type { OtpRequest, RequestOutcome } from '../../src/otp/outcomes.ts';
import { createPolicies, DEFAULT_POLICY } from '../../src/otp/policy/policy.ts';
import { createOtpService } from '../../src/otp/service.ts';
import type { OtpService } from '../../src/otp/service.ts';
import { channelOf, createTestDelivery } from '../harness/delivery.ts';
import { newSecretsText, newSweeper, secretsOf } from '../harness/service.ts';
import { createGate } from '../harness/waiting.ts';
import { createFixture, includes } from './tampered-connections.ts';
import type { Fixture } from './tampered-connections.ts';
import { fresh, freshAddress } from './load.ts';

/** The number of batches that look keys up after one batch has needed the lookup. */
const BATCHES_AFTER_LOOKUP = 64;

/** More than the slots of a client IP, so that a refusal takes two round trips. */
const MANY = 40;

/** The clock stands still: the limits of a replay are those of its own time. */
const NOW = '2026-01-05 08:00:00';

let fixture: Fixture;
let delivery: Delivery;
let newService: () => OtpService;
let keyLookups: boolean[] = [];
let commits = 0;

test.before(async () => {
  fixture = await createFixture();
  fixture.database.clock.set(NOW);
  const policies = createPolicies(DEFAULT_POLICY, new Map([
    ['many', { ...DEFAULT_POLICY, addressLimit: MANY }],
    ['tight', { ...DEFAULT_POLICY, addressLimit: 1 }],
  ]));
  const deps = { policies, secrets: secretsOf(newSecretsText()) };
  const channels = [channelOf(() => ({ kind: 'accepted' }))];
  delivery = createTestDelivery({ ...deps, pool: fixture.database.pool, channels });
  const pool = fixture.pool(4);
  newService = () => createOtpService({ ...deps, pool, sweeper: newSweeper(deps), delivery });
});
test.before.each(() => {
  keyLookups = [];
  commits = 0;
  fixture.tamper(async (name, _, proceed) => {
    if (includes(name, 'otps.lock')) keyLookups.push(includes(name, 'otps.by_key'));
    if (includes(name, 'commit')) commits += 1;
    return proceed();
  });
});
test.after(async () => {
  await delivery.stop(2000);
  fixture.closePools();
  fixture.database.close();
});

function newRequest(): OtpRequest {
  return {
    userId: fresh('u'), purpose: 'login', clientIp: freshAddress(), clientNet48: null,
    key: fresh('k'),
    apiClient: null,
    acceptLanguage: '',
  };
}

/** Requests of one turn of the event loop are decided in one batch. */
function requestBatch(
  service: OtpService,
  batch: readonly OtpRequest[],
): Promise<RequestOutcome[]> {
  return Promise.all(batch.map((input) => service.request(input, () => true)));
}

async function countKeys(): Promise<number> {
  const [row] = await fixture.database.query('SELECT COUNT(key_digest) AS n FROM otps');
  return Number(row!.n);
}

test('a batch of new keys reads no stored key', async () => {
  const outcomes = await requestBatch(newService(), Array.from({ length: 20 }, newRequest));
  assert.ok(outcomes.every(({ kind }) => kind === 'issued'));
  assert.equal(keyLookups, [false]);
  assert.is(commits, 1);
});

test('a batch with a replay is decided again, and each request is written once', async () => {
  const known = newRequest();
  const [first] = await requestBatch(newService(), [known]);
  const reused = { ...known, userId: fresh('u') };
  const batch = Array.from({ length: 20 }, newRequest);
  batch.splice(7, 0, known);
  batch.splice(12, 0, reused);
  const keys = await countKeys();
  keyLookups = [];
  const service = newService();
  const outcomes = await requestBatch(service, batch);
  assert.equal(outcomes[7], { ...first, replayed: true });
  assert.is(outcomes[12]!.kind, 'key_reused');
  const issued = outcomes.filter((_, index) => index !== 7 && index !== 12);
  assert.ok(issued.every((outcome) => outcome.kind === 'issued' && !outcome.replayed));
  assert.equal(keyLookups, [false, true]);
  assert.is(await countKeys(), keys + 20);
  const [row] = await fixture.database.query(
    'SELECT COUNT(*) AS n FROM otps WHERE user_id = ?', [reused.userId]);
  assert.is(Number(row!.n), 0, 'the rolled back batch left no row');

  // A client that repeats requests tends to repeat more: the next batches read keys at once.
  commits = 0;
  for (let turn = 0; turn < BATCHES_AFTER_LOOKUP - 1; turn += 1) {
    keyLookups = [];
    assert.equal(await requestBatch(service, [known]), [{ ...first, replayed: true }]);
    assert.equal(keyLookups, [true]);
  }
  assert.is(commits, 0);
});

test('a replay precedes a limit and a lock in a batch that read no key', async () => {
  const known = newRequest();
  const asked = [known, { ...known, key: fresh('k') }, { ...known, key: fresh('k') }];
  const service = newService();
  const outcomes: RequestOutcome[] = [];
  for (const input of asked) outcomes.push(...await requestBatch(service, [input]));
  const last = { ...known, key: fresh('k') };
  keyLookups = [];
  const [replay, limited] = await requestBatch(newService(), [known, last]);
  const [{ limits: _before, ...first }] = outcomes as [RequestOutcome];
  const { limits: _after, ...second } = replay!;
  assert.equal(second, { ...first, replayed: true });
  assert.is(limited!.kind, 'limited');
  assert.equal(keyLookups, [false, true]);

  await fixture.database.query(`UPDATE otps SET locked_until = ? + INTERVAL 60 SECOND
    WHERE user_id = ?`, [NOW, known.userId]);
  const [again, locked] = await requestBatch(newService(), [known, last]);
  assert.is(again!.kind, 'issued');
  assert.is(locked!.kind, 'locked');
});

test('a repeat is not refused because of the code that its own request commits meanwhile',
  async () => {
    const clientIp = freshAddress();
    const [one, other] = [newService(), newService()] as const;
    const request = (purpose: string): OtpRequest => ({ ...newRequest(), clientIp, purpose });
    for (let point = 1; point < MANY; point += 1) await requestBatch(one, [request('many')]);
    const [refused] = await requestBatch(other, [request('tight')]);
    assert.is(refused!.kind, 'limited', 'the next request from this address is screened');
    const known = request('many');
    const [held, screened] = [createGate(), createGate()];
    let first: Promise<RequestOutcome[]> | null = null;
    fixture.tamper(async (name, _, proceed) => {
      if (includes(name, 'commit')) {
        held.open();
        await screened.promise;
      }
      const rows = await proceed();
      if (!includes(name, 'otps.summaries')) return rows;
      screened.open();
      await first;
      return rows;
    });
    first = requestBatch(one, [known]);
    await held.promise;
    const [repeat] = await requestBatch(other, [known]);
    const { limits: _before, ...issued } = (await first)[0]!;
    const { limits: _after, ...answer } = repeat!;
    assert.equal(answer, { ...issued, replayed: true });
  });

test('a lock newer than the clock of the screening is decided with rows locked', async () => {
  const user = newRequest();
  const next = (): OtpRequest[] => [{ ...user, key: fresh('k') }];
  const service = newService();
  for (const kind of ['issued', 'issued', 'issued', 'limited', 'limited']) {
    keyLookups = [];
    assert.is((await requestBatch(service, next()))[0]!.kind, kind);
  }
  assert.equal(keyLookups, [], 'the last one was screened without a lock');
  await fixture.database.query(`UPDATE otps SET last_wrong_at = ? + INTERVAL 1 SECOND,
    locked_until = ? + INTERVAL 601 SECOND WHERE user_id = ?`, [NOW, NOW, user.userId]);
  assert.is((await requestBatch(service, next()))[0]!.kind, 'locked');
  assert.ok(keyLookups.length > 0);
});

test('an expired key counts as new while its row exists', async () => {
  const known = newRequest();
  const [first] = await requestBatch(newService(), [known]);
  await fixture.database.query('UPDATE otps SET key_expires_at = ?', [NOW]);
  const [second] = await requestBatch(newService(), [known]);
  assert.ok(first?.kind === 'issued' && second?.kind === 'issued');
  assert.ok(!second.replayed);
  assert.is.not(second.otpId, first.otpId);
});

test.run();
