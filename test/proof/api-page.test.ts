/**
 * docs/openapi.html is what its tool makes of openapi.json, byte for byte, and Chromium shows it
 * from the disk: without a request, a message, a fault that axe finds, or a line that is cut off.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser } from 'playwright-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startChromium } from '../harness/chromium.ts';
import { ROOT } from '../harness/program.ts';

const AXE = readFileSync(join(ROOT, 'node_modules/axe-core/axe.min.js'), 'utf8');
const PAGE = join(ROOT, 'docs/openapi.html');

let folder: string;
let browser: Browser;

test.before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'otpd-page-'));
  browser = await startChromium();
});

test.after(async () => {
  await browser.close();
  rmSync(folder, { recursive: true, force: true });
});

test('npm run api-page makes the page that is committed', () => {
  const made = join(folder, 'openapi.html');
  execFileSync('npm', ['run', 'api-page', '--', made], { cwd: ROOT, stdio: 'pipe' });
  assert.ok(readFileSync(made).equals(readFileSync(PAGE)), 'run npm run api-page');
});

for (const [colorScheme, width] of [['light', 1280], ['dark', 390]] as const) {
  test(`the page opens from the disk, ${colorScheme} and ${width} pixels wide`, async () => {
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
    const page = await context.newPage();
    const problems: string[] = [];
    page.on('console', (line) => problems.push(line.text()));
    const address = pathToFileURL(PAGE).href;
    await page.route((url) => url.href !== address, (route) => {
      problems.push(route.request().url());
      return route.abort();
    });
    await page.goto(address);
    await page.getByRole('link', { name: 'POST /otp/verify' }).click();
    assert.ok(await page.getByText('Redeem a code.', { exact: true }).isVisible());
    assert.ok(await page.evaluate('document.documentElement.scrollWidth') as number <= width);
    await page.evaluate(AXE);
    assert.equal(await page.evaluate(`axe.run().then(({ violations }) =>
      violations.map(({ id, nodes }) => id + ' ' + nodes[0].html))`), []);
    assert.equal(problems, []);
    await context.close();
  });
}

test.run();
