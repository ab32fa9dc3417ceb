/**
 * examples/login end to end: Chromium, the example, client/index.js, otpd and MySQL.
 * OTPD_TEST_SCREENSHOTS names a folder for the pictures of docs/client.md.
 */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startChromium } from '../harness/chromium.ts';
import { newVariables } from '../harness/command.ts';
import { forward, loseAnswer } from '../harness/forwarding.ts';
import { startHttpSink } from '../harness/http-sink.ts';
import type { Behaviour, HttpSink } from '../harness/http-sink.ts';
import { recordVisible } from '../harness/leak-recorder.ts';
import { startOtpd } from '../harness/otpd.ts';
import type { Otpd } from '../harness/otpd.ts';
import { ROOT, SHELL } from '../harness/program.ts';
import { eventually } from '../harness/waiting.ts';

const TOKEN = /^k1\.[\w-]{38}$/;
const POLICY = { default: { user_limit: 100, address_limit: 100, device_days: 30 } };
const AXE = readFileSync(join(ROOT, 'node_modules/axe-core/axe.min.js'), 'utf8');
const PICTURES = process.env.OTPD_TEST_SCREENSHOTS;

let folder: string;
/** Serves client/index.js to a page that calls otpd without a backend. */
let pages: HttpSink;
let otpd: Otpd;
let between: HttpSink;
let example: ChildProcess;
let output = '';
let browser: Browser;
let context: BrowserContext;
let page: Page;

const servePage: Behaviour = (response, { path }) => {
  const isScript = path.endsWith('.js');
  response.setHeader('Content-Type', isScript ? 'text/javascript' : 'text/html');
  response.end(isScript ? readFileSync(join(ROOT, 'client', path)) : '<title>Page</title>');
};

test.before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'otpd-login-'));
  const policyFile = join(folder, 'policy.json');
  writeFileSync(policyFile, JSON.stringify(POLICY));
  pages = await startHttpSink({ behaviour: servePage });
  otpd = await startOtpd({
    ...await newVariables(), TRUSTED_PROXIES: '127.0.0.0/8', POLICY_FILE: policyFile,
    ALLOWED_ORIGINS: pages.url,
  });
  between = await startHttpSink();
  example = spawn(process.execPath, [join(ROOT, 'examples/login/server.mjs')], {
    env: { PATH: SHELL.PATH, OTPD_URL: between.url, PORT: '0' } as NodeJS.ProcessEnv,
  });
  for (const stream of [example.stdout!, example.stderr!]) {
    stream.on('data', (chunk: Buffer) => { output += chunk.toString(); });
  }
  browser = await startChromium();
  await eventually('the example listens', () => output.includes('http://localhost:'));
});

test.after(async () => {
  await browser.close();
  const ended = once(example, 'close');
  example.kill();
  await ended;
  recordVisible(output);
  await between.close();
  await pages.close();
  otpd.stop();
  assert.is(await otpd.ended, 0);
  rmSync(folder, { recursive: true, force: true });
});

test.before.each(async () => {
  between.behave(forward(otpd.port));
  between.requests.length = 0;
  context = await browser.newContext({ locale: 'en-GB', viewport: { width: 400, height: 420 } });
  page = await context.newPage();
  await page.goto(/http:\/\/localhost:\d+/.exec(output)![0]);
});

test.after.each(() => context.close());

const button = (name: string) => page.getByRole('button', { name });
const says = (text: string) => page.getByText(text).waitFor();

/** Asks for a code as a new user, and returns what otpd printed. */
async function requestCode(user: string): Promise<string> {
  const before = otpd.codes().length;
  await page.getByLabel('E-mail address or phone number').fill(user);
  await button('Send a code').click();
  await says('A code is on its way.');
  await eventually('the code is printed', () => otpd.codes().length > before);
  return otpd.codes().at(-1)!;
}

async function enterCode(code: string): Promise<void> {
  await page.getByLabel('Code from the message').fill(code);
  await button('Log in').click();
}

function wrong(code: string): string {
  return code === '000000' ? '000001' : '000000';
}

async function cookieOf(name: string) {
  return (await context.cookies()).find((cookie) => cookie.name === `__Host-${name}`);
}

async function picture(name: string): Promise<void> {
  if (PICTURES !== undefined) await page.screenshot({ path: join(PICTURES, `${name}.png`) });
}

test('a visitor logs in, is known after a reload, and logs out', async () => {
  const code = await requestCode('Zoë@example.com');
  const first = await cookieOf('session');
  await enterCode(wrong(code));
  await says('Wrong code. 2 attempts left.');
  await picture('login-wrong');
  await page.keyboard.type(`${code.slice(0, 3)} ${code.slice(3)}`);
  await page.keyboard.press('Enter');
  await says('zoë@example.com');
  for (const name of ['session', 'device']) {
    const cookie = await cookieOf(name);
    assert.equal([cookie?.httpOnly, cookie?.secure, cookie?.sameSite, cookie?.path],
      [true, true, 'Lax', '/'], name);
  }
  assert.is.not((await cookieOf('session'))!.value, first!.value);
  await page.reload();
  await says('zoë@example.com');
  assert.is(await page.evaluate('document.cookie'), '');
  await button('Log out').click();
  await page.getByLabel('E-mail address or phone number').waitFor();
  await page.reload();
  assert.is(await page.getByText('zoë@example.com').isVisible(), false);
});

test('the device token comes back with the next login, and nothing else does', async () => {
  await enterCode(await requestCode('device@example.com'));
  await says('device@example.com');
  const token = (await cookieOf('device'))!.value;
  assert.match(token, TOKEN);
  await button('Log out').click();
  assert.is(between.requests.some(({ headers }) => 'otp-device' in headers), false);
  await enterCode(await requestCode('device@example.com'));
  await says('device@example.com');
  assert.equal(between.requests.map(({ headers }) => headers['otp-device']),
    [undefined, undefined, token, token]);
  const [cookie] = (await context.cookies()).filter(({ name }) => name === '__Host-device');
  await context.addCookies([{ ...cookie!, value: 'x'.repeat(300) }]);
  await button('Log out').click();
  await requestCode('device@example.com');
  assert.is(between.requests.at(-1)!.headers['otp-device'], undefined);
});

test('a code whose answer is lost between the example and otpd logs in', async () => {
  const code = await requestCode('lost@example.com');
  between.behaveNext(loseAnswer(otpd.port));
  await enterCode(code);
  await says('lost@example.com');
});

test('a code that got no answer at all logs in when the user tries again', async () => {
  const code = await requestCode('again@example.com');
  between.behaveNext(loseAnswer(otpd.port), loseAnswer(otpd.port));
  await enterCode(code);
  await says('No connection. Please try again.');
  await button('Log in').click();
  await says('again@example.com');
});

test('a page whose origin is allowed calls otpd itself, with every header of the client',
  async () => {
    await page.goto(pages.url);
    const call = (method: string, members: object) => page.evaluate(`import('/index.js').then(
      ({ createClient }) => createClient({ url: 'http://127.0.0.1:${otpd.port}' })
        .${method}(${JSON.stringify({ userId: 'browser', purpose: 'login', ...members })}))`) as
      Promise<Record<string, unknown>>;
    const before = otpd.codes().length;
    const sent = await call('request', { devices: [] });
    assert.equal([sent.kind, sent.nextCodeInSeconds], ['sent', 0]);
    assert.match(String(sent.requestId), /^[\w-]{36}$/);
    await eventually('the code is printed', () => otpd.codes().length > before);
    const members = { code: otpd.codes().at(-1), otpId: sent.otpId, idempotencyKey: 'in-a-page' };
    const verified = await call('verify', members);
    assert.match(String(verified.device), TOKEN);
    const again = await call('verify', { ...members, devices: [verified.device] });
    assert.equal([again.kind, again.isReplay, again.device], ['verified', true, verified.device]);
  });

test('an earlier code, a lock and a limit are said in words, with the time to wait', async () => {
  const earlier = await requestCode('words@example.com');
  const before = otpd.codes().length;
  // The answer empties the field.
  await page.getByLabel('Code from the message').fill('1');
  await button('Send a new code').click();
  await eventually('a second code', () => otpd.codes().length > before);
  const code = otpd.codes().at(-1)!;
  await page.waitForFunction("document.querySelector('otp-code').value === ''");
  if (earlier !== code) {
    await enterCode(earlier);
    await says('A newer code was sent. Enter the latest one.');
  }
  const guesses = ['000000', '000001', '000002', '000003', '000004']
    .filter((guess) => guess !== code && guess !== earlier).slice(0, 3);
  for (const guess of guesses) {
    await enterCode(guess);
    await page.getByText(/attempts? left|Too many wrong codes/).waitFor();
  }
  await says('Too many wrong codes. Please wait.');
  assert.match(await button('New code in').innerText(), /^New code in (10:00|9:\d\d)$/);
  await picture('login-locked');
});

test('a page of another site can neither send a code nor log anybody in', async () => {
  const origin = new URL(page.url()).origin;
  const statuses = await Promise.all(['/code', '/login', '/logout'].map(async (path) => {
    const { status } = await fetch(origin + path, {
      method: 'POST', body: '{"userId":"victim"}', headers: { 'Content-Type': 'text/plain' },
    });
    return status;
  }));
  assert.equal(statuses, [415, 415, 415]);
  for (const body of ['', 'null', '[', `"${'x'.repeat(5000)}"`]) {
    const { status } = await fetch(`${origin}/code`, {
      method: 'POST', body, headers: { 'Content-Type': 'application/json' },
    });
    assert.ok(status === 400 || status === 413, body);
  }
  assert.is(between.requests.length, 0);
});

test('axe finds nothing on any of its pages, light and dark', async () => {
  const check = async (name: string) => {
    for (const colorScheme of ['dark', 'light'] as const) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      if (name === 'code') await picture(`login-${colorScheme}`);
      await page.evaluate(AXE);
      assert.equal(await page.evaluate(`axe.run().then(({ violations }) =>
        violations.map(({ id, nodes }) => id + ' ' + nodes[0].html))`), []);
    }
  };
  await check('start');
  const code = await requestCode('axe@example.com');
  await check('code');
  await enterCode(code);
  await says('axe@example.com');
  await check('account');
});

test('a second example on the same port says what to do, and so does one on no port', () => {
  const { port } = new URL(/http:\/\/localhost:\d+/.exec(output)![0]);
  for (const [PORT, message] of [[port, 'listen EADDRINUSE'], ['x', 'options.port should be']]) {
    const second = spawnSync(process.execPath, [join(ROOT, 'examples/login/server.mjs')], {
      env: { PATH: SHELL.PATH, PORT } as NodeJS.ProcessEnv, encoding: 'utf8', timeout: 20_000,
    });
    assert.is(second.status, 1);
    assert.match(second.stderr, new RegExp(`^${message}.*; set PORT to a free port\n$`));
  }
});

test('the log of the example has no code', () => {
  const codes = otpd.codes();
  assert.ok(codes.length > 4);
  assert.is(codes.some((code) => output.includes(code)), false);
});

test.run();
