/** client/otp-code.js in Chromium, under a strict content security policy. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startChromium } from '../harness/chromium.ts';
import { ROOT } from '../harness/program.ts';

const ORIGIN = 'http://localhost:8080';
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self';"
  + " require-trusted-types-for 'script'";

/** Without a background of its own axe takes the dark page for a white one. */
const STYLE = 'html { background: Canvas; }';

const AXE = readFileSync(join(ROOT, 'node_modules/axe-core/axe.min.js'), 'utf8');
const LANGUAGES = ['en', 'de', 'fr', 'es'] as const;

/** WCAG 2.2 to level AA, and what else axe advises. */
const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

const SENT = { kind: 'sent', ttl: 300, nextCodeInSeconds: 60 };

/** Every outcome that a user can see, and a text of its English message. */
const SHOWN: readonly (readonly [object, RegExp])[] = [
  [SENT, /on its way/],
  [{ kind: 'verified' }, /Confirmed/],
  [{ kind: 'invalid_code', attemptsRemaining: 2 }, /2 attempts left/],
  [{ kind: 'invalid_code', attemptsRemaining: 1 }, /One attempt left/],
  [{ kind: 'code_used' }, /been used/],
  [{ kind: 'code_expired' }, /expired/],
  [{ kind: 'otp_not_found' }, /expired/],
  [{ kind: 'code_superseded' }, /newer code/],
  [{ kind: 'too_many_attempts', retryAfterSeconds: 600 }, /Too many wrong codes/],
  [{ kind: 'rate_limit_exceeded', retryAfterSeconds: 180 }, /Too many requests/],
  [{ kind: 'account_locked' }, /account is locked/],
  [{ kind: 'unavailable', reason: 'timeout', retryAfterSeconds: null }, /No connection/],
  [{ kind: 'failed', error: 'internal' }, /went wrong/],
  [{ kind: 'unknown', status: 418 }, /went wrong/],
];

let browser: Browser;
let context: BrowserContext;
let page: Page;

function pageIn(language: string): string {
  return `<!doctype html><html lang="${language}"><title>Login</title>
<meta name="color-scheme" content="light dark"><link rel="stylesheet" href="/style.css">
<script type="module" src="/otp-code.js"></script>
<main><h1>Login</h1><form><fieldset><legend>Login</legend>
<otp-code name="code" required></otp-code></fieldset><button>OK</button></form></main></html>`;
}

test.before(async () => { browser = await startChromium(); });
test.after(() => browser.close());

test.before.each(async () => {
  context = await browser.newContext({ locale: 'en-GB' });
  await context.route(`${ORIGIN}/**`, (route) => {
    const { pathname } = new URL(route.request().url());
    const headers = { 'Content-Security-Policy': POLICY };
    if (pathname === '/style.css') return route.fulfill({ body: STYLE, contentType: 'text/css' });
    return pathname === '/otp-code.js'
      ? route.fulfill({ path: join(ROOT, 'client/otp-code.js'), contentType: 'text/javascript' })
      : route.fulfill({ body: pageIn(pathname.slice(1)), contentType: 'text/html', headers });
  });
  page = await context.newPage();
  page.on('pageerror', (error) => { throw error; });
});

test.after.each(() => context.close());

async function open(language = 'en'): Promise<void> {
  await page.goto(`${ORIGIN}/${language}`);
  await page.waitForFunction("customElements.get('otp-code') !== undefined");
  await page.evaluate(`window.field = document.querySelector('otp-code'); window.events = [];
    for (const name of ['otp-complete', 'otp-resend', 'submit']) {
      document.addEventListener(name, (event) => { events.push(name); event.preventDefault(); });
    }`);
}

function show(outcome: object): Promise<unknown> {
  return page.evaluate(`field.show(${JSON.stringify(outcome)})`);
}

const input = () => page.locator('otp-code input');
const message = () => page.locator('otp-code').getByRole('status').innerText();
const resend = () => page.locator('otp-code button');
const valueOf = () => page.evaluate('field.value');
const isInside = (state: string, part: string) =>
  page.evaluate(`field.shadowRoot.querySelector('${part}').matches('${state}')`);
const eventsOf = () => page.evaluate('events');

test('the digits of every script are typed or pasted, with whatever stands between', async () => {
  await open();
  const texts = ['123456', '123 456', '١٢٣٤٥٦', '１２３-４５６', '۱۲۳۴۵۶', '१२३४५६', '𝟏𝟐𝟑𝟜𝟝𝟞',
    'Your code: 123456.', '123456 is your code. It works for 5 minutes.'];
  for (const text of texts) {
    await input().fill('');
    await input().focus();
    await page.keyboard.insertText(text);
    assert.is(await valueOf(), '123456', text);
  }
});

test('a paste of a whole code replaces what was typed, and a part is inserted', async () => {
  await open();
  const paste = (text: string) => page.evaluate(`{
    const clipboardData = new DataTransfer();
    clipboardData.setData('text/plain', '${text}');
    const event = new ClipboardEvent('paste', { clipboardData, cancelable: true });
    field.shadowRoot.querySelector('input').dispatchEvent(event);
  }`);
  await page.evaluate("field.value = '99'");
  assert.is(await paste('١٢٣ ٤٥٦'), false);
  assert.is(await valueOf(), '123456');
  assert.is(await paste('12'), true);
});

test('an input method is left alone until it has finished', async () => {
  await open();
  await input().focus();
  const devtools = await context.newCDPSession(page);
  const composing = { text: '１２x', selectionStart: 3, selectionEnd: 3 };
  await devtools.send('Input.imeSetComposition', composing);
  assert.is(await valueOf(), '１２x');
  await devtools.send('Input.insertText', { text: '１２x' });
  assert.is(await valueOf(), '12');
});

test('the caret stays when a character that is no digit is typed', async () => {
  await open();
  await input().pressSequentially('1234');
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.type('x9');
  assert.is(await valueOf(), '12934');
});

test('there is one input, which browsers fill and screen readers name', async () => {
  await open();
  assert.is(await input().count(), 1);
  assert.equal(await Promise.all(['autocomplete', 'inputmode', 'dir', 'type']
    .map((name) => input().getAttribute(name))), ['one-time-code', 'numeric', 'ltr', null]);
  await show({ kind: 'invalid_code', attemptsRemaining: 2 });
  const tree = await page.locator('otp-code').ariaSnapshot();
  assert.match(tree, /textbox "Code from the message"/);
  assert.match(tree, /status: Wrong code\. 2 attempts left\./);
  assert.is(await input().getAttribute('aria-invalid'), 'true');
  assert.is(await page.evaluate('document.activeElement === field'), true);
});

test('it is a member of its form: value, validity, Enter, reset and a disabled fieldset',
  async () => {
    await open();
    const isValid = () => page.evaluate("document.forms[0].checkValidity()");
    assert.is(await isValid(), false);
    await input().pressSequentially('12345');
    assert.is(await isValid(), false);
    await page.keyboard.press('Enter');
    assert.equal(await eventsOf(), []);
    await page.keyboard.type('6');
    assert.is(await isValid(), true);
    assert.is(await page.evaluate("new FormData(document.forms[0]).get('code')"), '123456');
    await page.keyboard.press('Enter');
    assert.equal(await eventsOf(), ['otp-complete', 'submit']);
    await show({ kind: 'invalid_code', attemptsRemaining: 2 });
    assert.is(await isValid(), false);
    await page.keyboard.type('654321');
    assert.is(await isValid(), true);
    assert.is(await message(), '');
    await page.evaluate('document.forms[0].reset()');
    assert.is(await valueOf(), '');
    await page.evaluate("document.querySelector('fieldset').disabled = true");
    assert.is(await input().isDisabled(), true);
    assert.is(await page.evaluate("new FormData(document.forms[0]).has('code')"), false);
  });

test('every outcome has words in every language', async () => {
  for (const language of LANGUAGES) {
    await open(language);
    const texts = new Set<string>();
    for (const [outcome, english] of SHOWN) {
      await show(outcome);
      const text = await message();
      if (language === 'en') assert.match(text, english);
      assert.ok(text.length > 5 && !/[{}]|undefined|NaN/.test(text), text);
      assert.is(await page.locator('otp-code p').getAttribute('lang'), language);
      texts.add(text);
    }
    // otp_not_found reads as expired, and unknown as failed.
    assert.is(texts.size, SHOWN.length - 2);
  }
  const names = await page.evaluate(`Object.values(customElements.get('otp-code').words)
    .map((words) => Object.values(words).filter((text) => text.length > 1).length)`);
  assert.equal(names, [17, 17, 17, 17]);
  await open('pl-PL');
  await show(SENT);
  assert.is(await page.locator('otp-code p').getAttribute('lang'), 'en');
});

test('axe finds nothing, in any state, light and dark', async () => {
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await open('de');
    for (const [outcome] of SHOWN) {
      await show(outcome);
      await page.evaluate(AXE);
      const found = await page.evaluate(`axe.run({ runOnly: ${JSON.stringify(TAGS)} })
        .then(({ violations, passes }) => ({
          ids: violations.map(({ id, nodes }) => id + ' ' + nodes[0].html), count: passes.length,
        }))`) as { ids: string[]; count: number };
      assert.equal(found.ids, [], JSON.stringify(outcome));
      assert.ok(found.count > 10);
    }
  }
});

test('it works with the keyboard alone, and its targets are large enough', async () => {
  await open();
  await page.keyboard.press('Tab');
  assert.is(await isInside(':focus-visible', 'input'), true);
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Space');
  assert.equal(await eventsOf(), ['otp-resend', 'otp-resend']);
  await show({ kind: 'rate_limit_exceeded', retryAfterSeconds: 180 });
  await page.keyboard.press('Enter');
  assert.is(((await eventsOf()) as string[]).length, 2);
  // The button stays where the focus is, and says that it cannot be used.
  assert.is(await isInside(':focus', 'button'), true);
  assert.is(await resend().getAttribute('aria-disabled'), 'true');
  for (const target of [input(), resend()]) {
    const box = await target.boundingBox();
    assert.ok(box!.height >= 44 && box!.width >= 44);
  }
});

test('the times count down: to the next code, and to the end of this one', async () => {
  await page.clock.install({ time: '2026-01-05T08:00:00Z' });
  await open();
  await page.clock.pauseAt('2026-01-05T08:01:00Z');
  await show(SENT);
  assert.is(await resend().innerText(), 'New code in 1:00');
  assert.is(await page.locator('otp-code span').innerText(), 'Valid for 5:00');
  await page.clock.runFor(59_000);
  assert.is(await resend().innerText(), 'New code in 0:01');
  await page.clock.runFor(1000);
  assert.is(await resend().innerText(), 'Send a new code');
  assert.is(await page.locator('otp-code span').innerText(), 'Valid for 4:00');
  await page.locator('form > button').focus();
  await page.clock.runFor(240_000);
  assert.match(await message(), /expired/);
  assert.is(await page.locator('otp-code span').innerText(), '');
  assert.is(await page.evaluate('document.activeElement === field'), false);
  await show({ kind: 'too_many_attempts', retryAfterSeconds: 600 });
  assert.is(await resend().innerText(), 'New code in 10:00');
  await show({ kind: 'account_locked' });
  assert.equal([await resend().innerText(), await resend().getAttribute('aria-disabled')],
    ['Send a new code', 'true']);
});

test('a page without a connection says so until it is back', async () => {
  await open();
  await context.setOffline(true);
  await page.waitForFunction("field.shadowRoot.querySelector('p').textContent !== ''");
  assert.match(await message(), /No connection/);
  await context.setOffline(false);
  await page.waitForFunction("field.shadowRoot.querySelector('p').textContent === ''");
});

test('a browser with WebOTP is asked for the code of the SMS, until the field is removed',
  async () => {
    await page.addInitScript(`globalThis.OTPCredential = class {};
      navigator.credentials.get = (options) => {
        globalThis.asked = options;
        return new Promise((resolve) => { globalThis.deliver = resolve; });
      };`);
    await open();
    assert.equal(await page.evaluate('asked.otp'), { transport: ['sms'] });
    await page.evaluate("deliver({ code: '314159' })");
    await page.waitForFunction("field.value === '314159'");
    assert.equal(await eventsOf(), ['otp-complete']);
    await page.evaluate('field.remove()');
    assert.is(await page.evaluate('asked.signal.aborted'), true);
  });

test('nothing moves for people who want less motion, and colours follow the page', async () => {
  const part = "field.shadowRoot.querySelector('input')";
  const styleOf = (name: string) =>
    page.evaluate(`getComputedStyle(${part}).${name}`) as Promise<string>;
  const colours = new Set<string>();
  for (const [reducedMotion, animation] of [['reduce', 'none'], ['no-preference', 'x']] as const) {
    await page.emulateMedia({
      reducedMotion, colorScheme: reducedMotion === 'reduce' ? 'light' : 'dark',
    });
    await open();
    await show({ kind: 'code_used' });
    assert.is(await styleOf('animationName'), animation);
    colours.add(await styleOf('borderTopColor')).add(await styleOf('backgroundColor'));
  }
  assert.is(colours.size, 4);
});

test('texts can be changed, and a language added', async () => {
  await open('it');
  await page.evaluate(`customElements.get('otp-code').words.it = { code_used: 'Codice usato.' };
    field.show({ kind: 'code_used' })`);
  assert.is(await message(), 'Codice usato.');
  assert.is(await resend().innerText(), 'Send a new code');
});

test.run();
