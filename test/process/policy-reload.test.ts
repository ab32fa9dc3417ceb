/** SIGHUP and the policy file: a valid file is in force at once, an invalid one changes nothing. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient, post } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { variablesFor } from '../harness/command.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { startOtpd } from '../harness/otpd.ts';
import type { Otpd } from '../harness/otpd.ts';
import { eventually } from '../harness/waiting.ts';

const folder = mkdtempSync(join(tmpdir(), 'otpd-policy-'));
const file = join(folder, 'policy.json');
let database: TestDatabase;
let lastKey = 0;

test.before(async () => { database = await createTestDatabase(); });
test.after(() => {
  closeClient();
  database.close();
  rmSync(folder, { recursive: true, force: true });
});

function start(workers: number): Promise<Otpd> {
  const variables = variablesFor(database.settings.database!);
  return startOtpd({ ...variables, POLICY_FILE: file, WORKERS: String(workers) });
}

function write(policy: object): void {
  writeFileSync(file, JSON.stringify(policy));
}

/** The number of log lines with an event. */
function countOf(otpd: Otpd, event: string): number {
  return otpd.output().split(`"event":"${event}","name":"POLICY_FILE"`).length - 1;
}

/** Sends SIGHUP and waits until this many processes have logged the event. */
async function reload(otpd: Otpd, event: string, processes = 1): Promise<void> {
  const before = countOf(otpd, event);
  otpd.signal('SIGHUP');
  await eventually(event, () => countOf(otpd, event) === before + processes);
}

function request({ port }: Otpd, user: string, purpose = 'login'): Promise<Reply> {
  lastKey += 1;
  const body = { user_id: user, purpose };
  return post({ port, path: '/otp/request', body, key: `k${lastKey}` });
}

function verify({ port }: Otpd, user: string, code: string): Promise<Reply> {
  return post({ port, path: '/otp/verify', body: { user_id: user, purpose: 'login', code } });
}

/** The RateLimit-Policy header, which even a malformed request gets. */
async function policyOf({ port }: Otpd): Promise<unknown> {
  const { headers } = await post({ port, path: '/otp/request', body: '{' });
  return headers['ratelimit-policy'];
}

async function newestCode(otpd: Otpd, count: number): Promise<string> {
  await eventually('the code is printed', () => otpd.codes().length === count);
  return otpd.codes().at(-1)!;
}

test('a new policy applies to new requests, and open OTPs keep theirs',
  async () => {
    write({ default: { user_limit: 2 }, allowed_purposes: ['login'] });
    const otpd = await start(1);
    assert.is((await request(otpd, 'R1')).body.remaining_requests, 1);
    const open = await newestCode(otpd, 1);
    assert.is(await policyOf(otpd), '"user";q=2;w=900, "ip";q=8;w=900');
    assert.is((await request(otpd, 'R1', 'pay')).body.field, 'purpose');

    write({ default: { user_limit: 5, code_digits: 8 }, allowed_purposes: ['login', 'pay'] });
    assert.is((await request(otpd, 'R2')).body.remaining_requests, 1, 'not before it is asked for');
    await reload(otpd, 'reloaded');
    assert.is(await policyOf(otpd), '"user";q=5;w=900, "ip";q=8;w=900');
    assert.is((await request(otpd, 'R1', 'pay')).body.remaining_requests, 3);
    assert.is((await verify(otpd, 'R1', open)).status, 200);
    await request(otpd, 'R3');
    const longer = await newestCode(otpd, 4);
    assert.is(longer.length, 8);
    assert.is((await verify(otpd, 'R3', longer)).status, 200);
    otpd.stop();
    assert.is(await otpd.ended, 0);
  });

test('an invalid or missing file is named and leaves the old policy in force', async () => {
  write({ default: { user_limit: 4 } });
  const otpd = await start(1);
  const before = await policyOf(otpd);
  write({ default: { user_limit: 0, lifetime_seconds: 700 }, purposes: { pay: { digits: 8 } } });
  await reload(otpd, 'reload_failed');
  for (const fault of [
    'the policy in force stays', `POLICY_FILE ${file}: default.user_limit: must be a whole number`
      + ' from 1 to 1000', 'default.lifetime_seconds: must be a whole number from 30 to 600',
    'purposes.pay.digits: unknown member',
  ]) {
    await otpd.prints(fault);
  }
  assert.is(await policyOf(otpd), before);
  writeFileSync(file, '{"default":');
  await reload(otpd, 'reload_failed');
  await otpd.prints(`POLICY_FILE ${file}: is not JSON`);
  rmSync(file);
  await reload(otpd, 'reload_failed');
  await otpd.prints('POLICY_FILE names a file that cannot be read (ENOENT)');
  assert.is(await policyOf(otpd), before);
  assert.is((await request(otpd, 'R4')).body.remaining_requests, 3);
  write({ default: { user_limit: 6 } });
  await reload(otpd, 'reloaded');
  assert.is((await request(otpd, 'R4')).body.remaining_requests, 4);
  otpd.stop();
  assert.is(await otpd.ended, 0);
});

test('every worker reloads the policy or keeps the old one', async () => {
  write({ default: { user_limit: 2 } });
  const otpd = await start(2);
  write({ default: { user_limit: 7 } });
  await reload(otpd, 'reloaded', 2);
  const seen = await Promise.all(Array.from({ length: 20 }, () => policyOf(otpd)));
  assert.equal([...new Set(seen)], ['"user";q=7;w=900, "ip";q=8;w=900']);
  write({ default: { user_limit: -1 } });
  await reload(otpd, 'reload_failed', 2);
  const after = await Promise.all(Array.from({ length: 20 }, () => policyOf(otpd)));
  assert.equal([...new Set(after)], [...new Set(seen)]);
  otpd.stop();
  assert.is(await otpd.ended, 0);
});

test('a new label applies to the next message, and a label that a template needs must stay',
  async () => {
    const messages = join(folder, 'messages');
    mkdirSync(messages);
    writeFileSync(join(messages, 'login.txt'), '{code} is your code for {purpose}.');
    const variables = { POLICY_FILE: file, MESSAGES_FOLDER: messages };
    const writeLabel = (label: string | null) =>
      write({ default: { address_limit: 100 }, purposes: { login: { label } } });
    writeLabel('sign-in');
    const otpd = await startOtpd({ ...variablesFor(database.settings.database!), ...variables });
    await request(otpd, 'R5');
    await otpd.prints(/^message to R5: \d{6} is your code for sign-in\.$/m);
    writeLabel('the portal');
    await reload(otpd, 'reloaded');
    await request(otpd, 'R6');
    await otpd.prints(/^message to R6: \d{6} is your code for the portal\.$/m);
    writeLabel(null);
    await reload(otpd, 'reload_failed');
    await otpd.prints('outside brackets, but the purpose login has no label in en');
    await request(otpd, 'R7');
    await otpd.prints(/^message to R7: \d{6} is your code for the portal\.$/m);
    otpd.stop();
    assert.is(await otpd.ended, 0);
  });

test.run();
