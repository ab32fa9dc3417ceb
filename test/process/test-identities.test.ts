/** Test identities in a real process: the start, the log, the metrics, a reload and doctor. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient, post } from '../harness/client.ts';
import { objectOf, runCommand, variablesFor } from '../harness/command.ts';
import type { Variables } from '../harness/command.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { parseExposition, valueOf } from '../harness/exposition.ts';
import { findInTables } from '../harness/leak-check.ts';
import { recordCode } from '../harness/leak-recorder.ts';
import { startOtpd } from '../harness/otpd.ts';
import type { Otpd } from '../harness/otpd.ts';
import { eventually } from '../harness/waiting.ts';

const folder = mkdtempSync(join(tmpdir(), 'otpd-test-identities-'));
const file = join(folder, 'policy.json');
/** Found in no other text. */
const CODE = '8417250936';
const DAY_MS = 86_400_000;

let database: TestDatabase;
let variables: Variables;

test.before(async () => {
  database = await createTestDatabase();
  variables = variablesFor(database.settings.database!, { POLICY_FILE: file });
  recordCode(CODE);
});
test.after(() => {
  closeClient();
  database.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A later day, or an earlier one, in UTC. */
function dayIn(days: number): string {
  return new Date(Date.now() + days * DAY_MS).toISOString().slice(0, 10);
}

function write(until: string, more: object = {}): void {
  writeFileSync(file, JSON.stringify({
    default: { code_digits: CODE.length },
    test_identities: [{ user: 'T1', code: CODE, purposes: ['login'], until, ...more }],
  }), { mode: 0o600 });
}

let lastKey = 0;

function request({ port }: Otpd, userId: string) {
  lastKey += 1;
  const body = { user_id: userId, purpose: 'login' };
  return post({ port, path: '/otp/request', body, key: `k${lastKey}` });
}

function verify({ port }: Otpd, userId: string, code: string) {
  return post({ port, path: '/otp/verify', body: { user_id: userId, purpose: 'login', code } });
}

test('a last day that is missing or too far away stops the start', async () => {
  // Two days of margin: the day may change between this line and the check.
  for (const [until, rule] of [[dayIn(92), /at most 90 days away/], ['', /must be the last day/]]) {
    write(until as string);
    const { status, out, err } = await runCommand(['serve'], { ...variables, PORT: '0' });
    assert.is(status, 1);
    assert.match(err, rule as RegExp);
    assert.match(err, /test_identities\[0\]\.until/);
    assert.not.match(out + err, CODE);
  }
});

test('a test identity gets no message, and is marked in the log and counted apart', async () => {
  write(dayIn(30));
  const otpd = await startOtpd(variables);
  try {
    await otpd.prints('POLICY_FILE has test identities with fixed codes (1)');
    assert.is((await request(otpd, 'T1')).status, 201);
    assert.is((await request(otpd, 'U1')).status, 201);
    await eventually('the other message is printed', () => otpd.codes().length === 1);
    assert.is((await verify(otpd, 'T1', '0'.repeat(CODE.length))).status, 401);
    assert.is((await verify(otpd, 'T1', CODE)).status, 200);
    assert.is((await verify(otpd, 'U1', otpd.codes()[0]!)).status, 200);
    const tables = await findInTables(database.settings, new Set([CODE]));
    assert.ok(tables.rows > 0);
    assert.equal(tables.leaks, []);

    const metrics = parseExposition(
      await (await fetch(`http://127.0.0.1:${otpd.adminPort}/metrics`)).text());
    const names = ['issued', 'redeemed', 'wrong'];
    const countsOf = (kind: string) =>
      names.map((name) => valueOf(metrics, `otpd_${kind}_${name}_total`));
    assert.equal([countsOf('codes'), countsOf('test_codes')], [[1, 1, 0], [1, 1, 1]]);

    const lines = () => otpd.output().split('\n')
      .filter((line) => /^\{"time".*"purpose"/.test(line))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    await eventually('all requests are logged', () => lines().length === 5);
    assert.equal(lines().map((line) => [line.outcome, line.test_identity ?? false]), [
      ['issued', true], ['issued', false], ['invalid_code', true], ['verified', true],
      ['verified', false],
    ]);
    assert.is(otpd.codes().length, 1);
    assert.not.match(otpd.output(), CODE);
  } finally {
    otpd.stop();
    await otpd.ended;
  }
});

test('a reload with a day too far away is refused, and one without the identity ends it',
  async () => {
    write(dayIn(30));
    const otpd = await startOtpd(variables);
    try {
      write(dayIn(92));
      otpd.signal('SIGHUP');
      await otpd.prints('"reload_failed"');
      await otpd.prints('test_identities[0].until: must be at most 90 days away');
      assert.is((await request(otpd, 'T1')).status, 201);
      assert.is((await verify(otpd, 'T1', CODE)).status, 200);
      assert.equal(otpd.codes(), []);

      write(dayIn(30), { user: 'T2' });
      otpd.signal('SIGHUP');
      await otpd.prints('"reloaded"');
      assert.is((await request(otpd, 'T1')).status, 201);
      await eventually('the code is printed', () => otpd.codes().length === 1);
      assert.not.match(otpd.output(), CODE);
    } finally {
      otpd.stop();
      await otpd.ended;
    }
  });

test('an identity that has ended does not stop the start, and its user is an ordinary one',
  async () => {
    write(dayIn(-1), { user: 'T3' });
    const otpd = await startOtpd(variables);
    try {
      assert.is((await request(otpd, 'T3')).status, 201);
      await eventually('the code is printed', () => otpd.codes().length === 1);
      assert.is((await verify(otpd, 'T3', CODE)).status, otpd.codes()[0] === CODE ? 200 : 401);
    } finally {
      otpd.stop();
      await otpd.ended;
    }
  });

test('doctor names each identity with its last day, and a file that others can read', async () => {
  const findingsOf = async (check: string) => {
    const { findings } = objectOf(await runCommand(['doctor', '--json'], variables));
    return (findings as Record<string, string>[]).filter((each) => each.check === check)
      .map(({ level, found }) => `${level} ${found}`);
  };
  const day = dayIn(30);
  write(day);
  assert.equal(await findingsOf('test identities'),
    [`warn "T1" has a fixed code for login until ${day}, and gets no message`]);
  assert.equal((await findingsOf('secret files')).filter((found) => found.includes(file)), []);
  const past = dayIn(-1);
  write(past, { user: undefined, user_prefix: 'demo-' });
  chmodSync(file, 0o644);
  assert.equal(await findingsOf('test identities'),
    [`warn every user_id that begins with "demo-" has had no fixed code since ${past}`]);
  assert.match((await findingsOf('secret files')).join(), `POLICY_FILE ${file} has mode 644`);
  chmodSync(file, 0o600);
  write(dayIn(92));
  assert.match((await findingsOf('test identities')).join('\n'),
    /^fault test_identities\[0\]\.until: must be at most 90 days away/);
});

test.run();
