/**
 * Support on the admin listener of a real otpd with workers: its page in Chromium, its audit lines
 * and its metrics. OTPD_TEST_SCREENSHOTS names a folder for the picture of docs/support.md.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fetchAnswer } from '../harness/answer-recorder.ts';
import { newApiClients } from '../harness/api-clients.ts';
import { startChromium } from '../harness/chromium.ts';
import { closeClient, post } from '../harness/client.ts';
import { newVariables } from '../harness/command.ts';
import { parseExposition, valueOf } from '../harness/exposition.ts';
import { freePort } from '../harness/free-port.ts';
import { startOtpd } from '../harness/otpd.ts';
import type { Otpd } from '../harness/otpd.ts';
import { ROOT } from '../harness/program.ts';
import { createGate, eventually } from '../harness/waiting.ts';

const AXE = readFileSync(join(ROOT, 'node_modules/axe-core/axe.min.js'), 'utf8');
const PICTURES = process.env.OTPD_TEST_SCREENSHOTS;
const POLICY = { default: { user_limit: 100, address_limit: 100, device_days: 30 } };

const { apiKeys, headersOf } = newApiClients(['desk', 'app'],
  (name) => (name === 'desk' ? ['admin'] : ['request', 'verify']));

let folder: string;
let keysFile: string;
let otpd: Otpd;
let origin: string;
let browser: Browser;
let context: BrowserContext;
let page: Page;
const problems: string[] = [];

test.before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'otpd-support-'));
  const policyFile = join(folder, 'policy.json');
  keysFile = join(folder, 'keys');
  writeFileSync(policyFile, JSON.stringify(POLICY));
  writeFileSync(keysFile, apiKeys);
  const port = await freePort();
  origin = `http://127.0.0.1:${port}`;
  otpd = await startOtpd({
    ...await newVariables(), POLICY_FILE: policyFile, API_KEYS_FILE: keysFile, WORKERS: '2',
    ADMIN_PORT: String(port), ALLOWED_ORIGINS: origin, LOG_RAW_IDS: '1',
  });
  browser = await startChromium();
});

test.after(async () => {
  closeClient();
  await browser.close();
  otpd.stop();
  assert.is(await otpd.ended, 0);
  rmSync(folder, { recursive: true, force: true });
});

async function open(path = `${origin}/support`): Promise<void> {
  context = await browser.newContext({ viewport: { width: 860, height: 760 } });
  page = await context.newPage();
  page.on('pageerror', ({ message }) => problems.push(message));
  page.on('console', (line) => {
    // Chromium writes an error of its own for every answer that is none of 2xx.
    if (line.type() === 'error' && !line.text().startsWith('Failed to load resource')) {
      problems.push(line.text());
    }
  });
  await page.goto(path);
}

test.before.each(() => open());
test.after.each(() => context.close());

const keyOf = (name: string) => headersOf(name).Authorization!.slice('Bearer '.length);
const button = (name: string) => page.getByRole('button', { name, exact: true });
const says = (text: string | RegExp) => page.getByRole('status').getByText(text).waitFor();

async function show(user: string, key = keyOf('desk')): Promise<void> {
  await page.getByLabel('API key').fill(key);
  await page.getByLabel('User, byte for byte').fill(user);
  await page.keyboard.press('Enter');
}

async function confirm(name: string): Promise<void> {
  await button(name).click();
  await page.getByRole('dialog').waitFor();
  await button('Yes').click();
}

const call = (path: string, body: object, key?: string) => post({
  port: otpd.port, path, body, ...(key === undefined ? {} : { key }), headers: headersOf('app'),
});

/** A user with an open code; returns the code. */
async function requestCode(user: string, purpose = 'login'): Promise<string> {
  const before = otpd.codes().length;
  const { status } = await call('/otp/request', { user_id: user, purpose }, crypto.randomUUID());
  assert.is(status, 201);
  await eventually('the code is printed', () => otpd.codes().length > before);
  return otpd.codes().at(-1)!;
}

async function guess(user: string, code: string): Promise<number> {
  const wrong = code === '000000' ? '000001' : '000000';
  return (await call('/otp/verify', { user_id: user, purpose: 'login', code: wrong })).status;
}

async function lock(user: string): Promise<string> {
  const code = await requestCode(user);
  for (const status of [401, 401, 429]) assert.is(await guess(user, code), status);
  return code;
}

const auditLines = () => otpd.output().split('\n').filter((line) => line.includes('authz_admin'))
  .map((line) => JSON.parse(line) as Record<string, unknown>);

test('a locked user is found and unlocked, which the log and the metrics say', async () => {
  const user = 'Zoë/2 <b>';
  const code = await lock(user);
  await show(user);
  await says(`Shown: ${user}`);
  await page.getByText('locked until').waitFor();
  await page.getByText('login: the lock ends, after 3 wrong codes').waitFor();
  assert.not.match(await page.locator('#result').innerText(), new RegExp(`\\b${code}\\b`));
  await confirm('Unlock');
  await says('Unlocked. The user can request a code now.');
  await page.getByText('not locked', { exact: true }).waitFor();
  await requestCode(user);
  await eventually('both are logged', () => auditLines().length >= 2);
  const [shown, unlocked] = auditLines();
  for (const [line, route, outcome] of [[shown, '/users/{user_id}', 'shown'],
    [unlocked, '/users/{user_id}/unlock', 'unlocked']] as const) {
    assert.equal([line!.level, line!.route, line!.outcome, line!.user, line!.caller],
      ['warn', route, outcome, user, 'desk']);
  }
  const text = await (await fetchAnswer(`${origin}/metrics`)).text();
  assert.is(valueOf(parseExposition(text), 'otpd_support_total', { outcome: 'unlocked' }), 1);
});

test('without a confirmation nothing is done', async () => {
  const user = 'hesitant';
  const code = await lock(user);
  await show(user);
  await says('Shown');
  await button('Unlock').click();
  await page.getByText(`Unlock ${user} in all purposes`).waitFor();
  assert.is(await page.evaluate('document.activeElement.id'), 'no');
  await page.keyboard.press('Escape');
  await button('Unlock').click();
  await button('No').click();
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  assert.is(await guess(user, code), 429);
});

test('a confirmation is for the user in its question, even if another one is shown meanwhile',
  async () => {
    await lock('asked-about');
    await lock('late');
    await show('asked-about');
    await says('Shown: asked-about');
    const gate = createGate();
    await page.route('**/users/late', async (route) => {
      await gate.promise;
      await route.continue();
    });
    await show('late');
    await button('Unlock').click();
    await page.getByText('Unlock asked-about in all purposes').waitFor();
    gate.open();
    await page.getByRole('heading', { name: 'User late', includeHidden: true }).waitFor();
    await button('Yes').click();
    await says('Unlocked.');
    const unlocked = () => auditLines().filter(({ outcome }) => outcome === 'unlocked');
    await eventually('the unlock is logged', () =>
      unlocked().some(({ user }) => user === 'asked-about' || user === 'late'));
    assert.is(unlocked().some(({ user }) => user === 'late'), false);
  });

test('a code is canceled, and a device is revoked', async () => {
  const code = await requestCode('device-user');
  const body = { user_id: 'device-user', purpose: 'login', code };
  const verified = await call('/otp/verify', body);
  const device = String(verified.headers['otp-device']);
  assert.match(device, /^k1\./);
  const next = await requestCode('device-user', 'pay');
  await show('device-user');
  await says('Shown');
  await page.getByText(/login: a code was requested, verified by console/).waitFor();
  await confirm('Cancel the code');
  await says('The code is canceled.');
  const refused = await call('/otp/verify', { ...body, purpose: 'pay', code: next });
  assert.is(refused.status, 410);
  await confirm('Revoke all devices');
  await says('Revoked: all devices.');
  await page.getByText('all devices: revoked').waitFor();
  await eventually('the revocation is logged', () =>
    auditLines().some(({ outcome, user }) => outcome === 'revoked' && user === 'device-user'));
});

test('errors are said in words, with what to do', async () => {
  await show('nobody');
  await says('No record of this user.');
  await show('nobody', 'otpd_wrong');
  await says('This API key is not known.');
  await show('nobody', keyOf('app'));
  await says(/needs the scope admin/);
  await show('..');
  await says('A browser cannot ask for this user; use otpd show.');
  await show('x'.repeat(256));
  await says(/^user_id must /);
  assert.is(await page.getByText('This page may only read').isVisible(), false);
});

test('a page whose origin is not listed can read, and says what to list', async () => {
  const user = 'other-origin';
  const code = await lock(user);
  await context.close();
  await open(`${origin.replace('127.0.0.1', 'localhost')}/support`);
  const { port } = new URL(origin);
  const words = `This page may only read: list http://localhost:${port} in ALLOWED_ORIGINS`;
  await page.getByText(words).first().waitFor();
  await show(user);
  await says('Shown');
  await confirm('Unlock');
  await says(words);
  assert.is(await guess(user, code), 429);
});

test('the key is kept in the memory of the page only', async () => {
  await show('nobody');
  await says('No record');
  assert.equal(await page.evaluate(
    '[document.cookie, localStorage.length, sessionStorage.length, location.search]'),
    ['', 0, 0, '']);
  await page.reload();
  assert.is(await page.getByLabel('API key').inputValue(), '');
});

test('a reload of the API keys holds on the admin listener, too', async () => {
  const next = newApiClients(['late'], ['admin']);
  writeFileSync(keysFile, `${apiKeys},${next.apiKeys}`);
  otpd.signal('SIGHUP');
  const reloaded = /"event":"reloaded","name":"API_KEYS_FILE"/g;
  // Two workers and the process of the admin listener.
  await eventually('every process has reloaded', () =>
    [...otpd.output().matchAll(reloaded)].length === 3);
  const ask = async () => (await fetchAnswer(`${origin}/users/nobody`, {
    headers: next.headersOf('late'),
  })).status;
  assert.is(await ask(), 404);
});

test('axe finds nothing, light and dark, with the dialog too', async () => {
  const code = await lock('axe@example.com');
  assert.ok(code);
  await requestCode('axe@example.com', 'payment');
  await show('axe@example.com');
  await says('Shown');
  const check = async () => {
    for (const colorScheme of ['dark', 'light'] as const) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await page.evaluate(AXE);
      assert.equal(await page.evaluate(`axe.run().then(({ violations }) =>
        violations.map(({ id, nodes }) => id + ' ' + nodes[0].html))`), []);
    }
  };
  await check();
  if (PICTURES !== undefined) await page.screenshot({ path: join(PICTURES, 'support.png') });
  await button('Revoke all devices').click();
  await check();
});

test('no page has reported an error', () => assert.equal(problems, []));

test.run();
