/** Lists that do without what is stored under their keys, on a real database. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Sweeper } from '../../src/db/sweep.ts';
import type { Delivery } from '../../src/otp/delivery/delivery.ts';
import type { IssueInput, IssueOutcome } from '../../src/otp/outcome.ts';
import { createPolicies } from '../../src/otp/policy.ts';
import { createOtpService } from '../../src/otp/service.ts';
import type { OtpService } from '../../src/otp/service.ts';
import { channelOf, createTestDelivery } from '../harness/delivery.ts';
import { newSecretsText, secretsOf } from '../harness/service.ts';
import { createBench, includes } from './tampered-sessions.ts';
import type { Bench } from './tampered-sessions.ts';
import { fresh, freshAddress } from './traffic.ts';

/** So many lists read after one that had to. */
const LISTS_AFTER_NEED = 64;

let bench: Bench;
let delivery: Delivery;
let newService: () => OtpService;
let readings: boolean[] = [];
let commits = 0;

test.before(async () => {
  bench = await createBench();
  const parts = { policies: createPolicies(), secrets: secretsOf(newSecretsText()) };
  const channels = [channelOf(() => ({ kind: 'accepted' }))];
  delivery = createTestDelivery({ ...parts, pool: bench.database.pool, channels });
  const pool = bench.pool(4);
  newService = () => createOtpService({ ...parts, pool, sweeper: new Sweeper(), delivery });
});
test.before.each(() => {
  readings = [];
  commits = 0;
  bench.tamper(async (name, _, proceed) => {
    if (includes(name, 'otps.lock')) readings.push(includes(name, 'otps.by_key'));
    if (includes(name, 'commit')) commits += 1;
    return proceed();
  });
});
test.after(async () => {
  await delivery.stop(2000);
  bench.closePools();
  bench.database.close();
});

function newRequest(): IssueInput {
  return {
    userId: fresh('u'), purpose: 'login', address: freshAddress(), key: fresh('k'), caller: null,
    acceptLanguage: '',
  };
}

/** What comes in one turn goes into one list. */
function issueList(service: OtpService, list: readonly IssueInput[]): Promise<IssueOutcome[]> {
  return Promise.all(list.map((input) => service.issue(input, () => true)));
}

async function countKeys(): Promise<number> {
  const [row] = await bench.database.query('SELECT COUNT(key_digest) AS n FROM otps');
  return Number(row!.n);
}

test('new keys are not looked for', async () => {
  const outcomes = await issueList(newService(), Array.from({ length: 20 }, newRequest));
  assert.ok(outcomes.every(({ kind }) => kind === 'issued'));
  assert.equal(readings, [false]);
  assert.is(commits, 1);
});

test('a replay among new requests: decided again, each answered, each written once', async () => {
  const known = newRequest();
  const [first] = await issueList(newService(), [known]);
  const reused = { ...known, userId: fresh('u') };
  const list = Array.from({ length: 20 }, newRequest);
  list.splice(7, 0, known);
  list.splice(12, 0, reused);
  const keys = await countKeys();
  readings = [];
  const service = newService();
  const outcomes = await issueList(service, list);
  assert.equal(outcomes[7], { ...first, replayed: true });
  assert.is(outcomes[12]!.kind, 'key_reused');
  const issued = outcomes.filter((_, index) => index !== 7 && index !== 12);
  assert.ok(issued.every((outcome) => outcome.kind === 'issued' && !outcome.replayed));
  assert.equal(readings, [false, true]);
  assert.is(await countKeys(), keys + 20);
  const [row] = await bench.database.query(
    'SELECT COUNT(*) AS n FROM otps WHERE user_id = ?', [reused.userId]);
  assert.is(Number(row!.n), 0, 'nothing is left of what was taken back');

  // Whoever repeats requests does it again: the next lists read at once, and write nothing.
  commits = 0;
  for (let turn = 0; turn < LISTS_AFTER_NEED - 1; turn += 1) {
    readings = [];
    assert.equal(await issueList(service, [known]), [{ ...first, replayed: true }]);
    assert.equal(readings, [true]);
  }
  assert.is(commits, 0);
});

test('a replay comes before a limit and a lock, also where nobody has read', async () => {
  const known = newRequest();
  const asked = [known, { ...known, key: fresh('k') }, { ...known, key: fresh('k') }];
  const service = newService();
  const outcomes: IssueOutcome[] = [];
  for (const input of asked) outcomes.push(...await issueList(service, [input]));
  const last = { ...known, key: fresh('k') };
  readings = [];
  const [replay, limited] = await issueList(newService(), [known, last]);
  const [{ limits: _before, ...first }] = outcomes as [IssueOutcome];
  const { limits: _after, ...second } = replay!;
  assert.equal(second, { ...first, replayed: true });
  assert.is(limited!.kind, 'limited');
  assert.equal(readings, [false, true]);

  await bench.database.query(`UPDATE otps SET locked_until = NOW(6) + INTERVAL 60 SECOND
    WHERE user_id = ?`, [known.userId]);
  const [again, locked] = await issueList(newService(), [known, last]);
  assert.is(again!.kind, 'issued');
  assert.is(locked!.kind, 'locked');
});

test('an expired key is new, though its row is still there', async () => {
  const known = newRequest();
  const [first] = await issueList(newService(), [known]);
  await bench.database.query('UPDATE otps SET key_expires_at = NOW(6)');
  const [second] = await issueList(newService(), [known]);
  assert.ok(first?.kind === 'issued' && second?.kind === 'issued');
  assert.ok(!second.replayed);
  assert.is.not(second.otpId, first.otpId);
});

test.run();
