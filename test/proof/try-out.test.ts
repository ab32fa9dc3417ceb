/**
 * The try-out page of `npm start` in Chromium, on a real otpd and the development MySQL.
 * OTPD_TEST_SCREENSHOTS names a folder for the picture of the README.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import type { IncomingHttpHeaders } from 'node:http';
import { join } from 'node:path';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openConnection } from '../../src/db/connection.ts';
import { findRunningServer } from '../../tools/mysql/socket-path.ts';
import { startChromium } from '../harness/chromium.ts';
import { post } from '../harness/client.ts';
import { settingsFor } from '../harness/database.ts';
import { readPage } from '../harness/markdown.ts';
import { codesIn } from '../harness/printed.ts';
import { ROOT } from '../harness/program.ts';
import { finish, portOf, until } from '../harness/run.ts';
import type { Run } from '../harness/run.ts';
import { eventually } from '../harness/waiting.ts';
import { cleanUp, DATA_FOLDER, dev, stop } from '../tools/dev-fixture.ts';

const AXE = readFileSync(join(ROOT, 'node_modules/axe-core/axe.min.js'), 'utf8');
const PICTURES = process.env.OTPD_TEST_SCREENSHOTS;
const URL_LINE = /^a page to try it out: (http:\/\/127\.0\.0\.1:(\d+)\/)$/m;

let otpd: Run;
let url: string;
let browser: Browser;
let context: BrowserContext;
let page: Page;
const problems: string[] = [];

test.before(async () => {
  otpd = dev(['serve'], { WORKERS: '2' });
  await portOf(otpd);
  url = await until(otpd, () => URL_LINE.exec(otpd.output())?.[1]);
  browser = await startChromium();
});

test.after(async () => {
  await browser.close();
  await stop(otpd);
  await cleanUp();
});

/** Each test has the whole limit of this address. */
async function emptyTables(): Promise<void> {
  const socketPath = (await findRunningServer(DATA_FOLDER))!;
  const root = await openConnection(settingsFor('otpd', socketPath));
  for (const table of ['ip_rate_limits', 'otps']) {
    await root.run('test', `TRUNCATE TABLE ${table}`, []);
  }
  root.destroy();
}

test.before.each(async () => {
  await moveClock(0);
  await emptyTables();
  context = await browser.newContext({ viewport: { width: 1080, height: 660 } });
  page = await context.newPage();
  page.on('pageerror', ({ message }) => problems.push(message));
  page.on('console', (line) => {
    // Chromium writes an error of its own for every answer that is none of 2xx.
    if (line.type() === 'error' && !line.text().startsWith('Failed to load resource')) {
      problems.push(line.text());
    }
  });
  await page.goto(url);
});

test.after.each(() => context.close());

type Got = Readonly<{ status: number; headers: IncomingHttpHeaders; text: string }>;

/** A request whose Host and Origin a browser would not let a page choose. */
function ask(
  path: string,
  headers: Record<string, string> = {},
  body: string | null = null,
): Promise<Got> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest(new URL(path, url), {
      method: body === null ? 'GET' : 'POST', headers, agent: false,
    }, (answer) => {
      let text = '';
      answer.on('data', (chunk: Buffer) => { text += chunk.toString(); });
      answer.on('end', () =>
        resolve({ status: answer.statusCode!, headers: answer.headers, text }));
    });
    sent.on('error', reject);
    sent.end(body ?? undefined);
  });
}

function moveClock(seconds: unknown): Promise<Got> {
  return ask('/clock', { 'Content-Type': 'application/json' }, JSON.stringify({ seconds }));
}

const button = (name: string | RegExp) => page.getByRole('button', { name });
const says = (text: string | RegExp) => page.getByRole('status').getByText(text).waitFor();
const exactly = (name: string) => page.getByRole('button', { name, exact: true });

async function requestCode(user: string): Promise<string> {
  await page.getByLabel('user_id').fill(user);
  const before = codesIn(otpd.output()).length;
  await exactly('Request').click();
  await says('/otp/request: 201');
  await eventually('the code is printed', () => codesIn(otpd.output()).length > before);
  return codesIn(otpd.output()).at(-1)!;
}

/** The policy of the page forbids the evaluation that waitForFunction needs. */
function clockIsAt(seconds: string): Promise<void> {
  return eventually(`the clock is ${seconds} s ahead`, async () =>
    await page.getByRole('slider').inputValue() === seconds);
}

async function left(limit: string): Promise<number> {
  const bar = page.getByRole('meter', { name: `codes left to ${limit}` });
  return Number(await bar.getAttribute('aria-valuenow'));
}

test('axe finds nothing, light and dark', async () => {
  await requestCode('U1');
  const code = await requestCode('U1');
  await button(`Use ${code}`).click();
  await exactly('Verify').click();
  await says('/otp/verify: 200');
  for (const colorScheme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await page.evaluate(AXE);
    assert.equal(await page.evaluate(`axe.run().then(({ violations }) =>
      violations.map(({ id, nodes }) => id + ' ' + nodes[0].html))`), []);
  }
  if (PICTURES !== undefined) await page.screenshot({ path: join(PICTURES, 'try-out.png') });
});

test('npm start prints the address of the page as the README shows it', () => {
  const { port } = new URL(url);
  const [line] = URL_LINE.exec(otpd.output())!;
  const shown = readPage('README.md').blocks.join('\n');
  assert.ok(shown.includes(`\n${line.replace(port, '3001')}\n`), line);
});

test('a code is requested, read from the phone and verified, once', async () => {
  const code = await requestCode('Zoë "B"');
  await page.getByText('to Zoë "B" at').waitFor();
  assert.is(await left('this user'), 2);
  await button(`Use ${code}`).click();
  await exactly('Verify').click();
  await says('/otp/verify: 200');
  assert.match(await page.locator('#answers li').first().innerText(),
    /"message":"verification_successful"[^]*content-type: application\/json/);
  await page.keyboard.press('Enter');
  await exactly('Verify').click();
  await says('/otp/verify: 410');
  await page.reload();
  await button(`Use ${code}`).waitFor();
});

test('the bars empty with each code, and fill when the slider moves the clock', async () => {
  await requestCode('bars');
  assert.is(await left('this user'), 2);
  await requestCode('bars');
  await page.getByLabel('same Idempotency-Key again').check();
  await exactly('Request').click();
  await page.getByText('idempotent-replayed: true').waitFor();
  assert.is(await left('this user'), 1);
  await page.getByLabel('same Idempotency-Key again').uncheck();
  await requestCode('bars');
  await exactly('Request').click();
  await says('/otp/request: 429');
  assert.is(await left('this user'), 0);
  const slider = page.getByRole('slider');
  await slider.focus();
  await page.keyboard.press('End');
  await eventually('the bar is full', async () => await left('this user') === 3);
  assert.is(await page.getByText('forward by').innerText(), 'forward by 1:00:00');
  await requestCode('bars');
  assert.is(await left('this user'), 2);
  await button('now').click();
  await clockIsAt('0');
});

test('a code expires, and a lock ends, when the clock is moved', async () => {
  const code = await requestCode('clock');
  await page.getByLabel('code', { exact: true }).fill(code);
  await button('+ 5 min').click();
  await clockIsAt('300');
  await exactly('Verify').click();
  await says('/otp/verify: 410');
  await page.getByText('code_expired').waitFor();
  const next = await requestCode('clock');
  const wrong = next === '000000' ? '000001' : '000000';
  await page.getByLabel('code', { exact: true }).fill(wrong);
  for (const status of ['401', '401', '429']) {
    await exactly('Verify').click();
    await says(`/otp/verify: ${status}`);
    await page.evaluate("document.getElementById('said').textContent = ''");
  }
  await page.getByText(/^Locked after wrong codes, for (10:00|9:\d\d)\.$/).waitFor();
  await button('+ 15 min').click();
  await page.getByText('Locked after').waitFor({ state: 'hidden' });
  await requestCode('clock');
});

test('the commands on the same MySQL have the moved clock', async () => {
  await requestCode('later');
  await moveClock(86_400);
  const show = dev(['show', 'later']);
  await finish(show);
  const { now } = JSON.parse(show.output()) as { now: string };
  const aheadMs = Date.parse(now) - Date.now();
  assert.ok(Math.abs(aheadMs - 86_400_000) < 120_000, now);
});

test('another name of the host and another page get nothing', async () => {
  const { port } = new URL(url);
  const json = { 'Content-Type': 'application/json' };
  for (const path of ['/', '/events', '/none']) {
    for (const host of ['evil.example', `evil.example:${port}`, `127.0.0.1.evil:${port}`,
      `[::1]:${port}`, '127.0.0.1', `127.0.0.1:${Number(port) + 1}`]) {
      assert.is((await ask(path, { Host: host })).status, 421, `${path} ${host}`);
    }
  }
  assert.is((await ask('/', { Host: `localhost:${port}` })).status, 200);
  const body = '{"user_id":"evil","purpose":"login"}';
  for (const [name, value] of [['Origin', 'http://evil.example'], ['Origin', 'null'],
    ['Origin', `https://127.0.0.1:${port}`], ['Sec-Fetch-Site', 'cross-site'],
    ['Sec-Fetch-Site', 'same-site']] as const) {
    for (const path of ['/otp/request', '/otp/verify', '/clock']) {
      const headers = { ...json, 'Idempotency-Key': 'evil', [name]: value };
      assert.is((await ask(path, headers, body)).status, 403, `${path} ${value}`);
    }
    assert.is((await ask('/events', { [name]: value })).status, 403);
  }
  const policy = String((await ask('/')).headers['content-security-policy']);
  assert.match(policy, /^default-src 'none'; script-src 'sha256-[^ ]+'; style-src 'sha256-/);
  assert.not.match(policy, /unsafe|\*/);
});

test('only the paths of the page are passed on, and the clock has bounds', async () => {
  for (const path of ['/openapi.json', '/sms/status/x', '/otp/x', '/clock', '/page.html']) {
    assert.is((await ask(path)).status, 404, path);
  }
  for (const seconds of [-1, 86_401, 1.5, '1', null, 'x'.repeat(2000)]) {
    assert.is((await moveClock(seconds)).status, 400, String(seconds).slice(0, 9));
  }
  assert.is((await ask('/clock', { 'Content-Type': 'text/plain' }, '{"seconds":1}')).status, 400);
  assert.is(readFileSync(join(DATA_FOLDER, 'clock'), 'utf8'), '0');
  assert.is(statSync(join(DATA_FOLDER, 'clock')).mode & 0o777, 0o600);
});

test('no page has reported an error', () => assert.equal(problems, []));

test('production has no page and no moved clock, also on the development MySQL', async () => {
  await stop(otpd);
  assert.throws(() => statSync(join(DATA_FOLDER, 'clock')), /ENOENT/);
  otpd = dev(['serve'], { NODE_ENV: 'production', DELIVERY: 'webhook',
    WEBHOOK_URL: 'https://127.0.0.1:9/',
    WEBHOOK_SECRETS: `whsec_${randomBytes(32).toString('base64')}` });
  const port = await portOf(otpd);
  assert.not.match(otpd.output(), URL_LINE);
  const issued = await post({ port, path: '/otp/request', key: 'production',
    body: { user_id: '+14155550123', purpose: 'login' } });
  assert.is(issued.status, 201);
});

test.run();
