/**
 * Chromium shows docs/openapi.html from the disk: without a request, a message, a fault that axe
 * finds, or a line that is cut off.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser } from 'playwright-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startChromium } from '../harness/chromium.ts';
import { ROOT } from '../harness/program.ts';

const AXE = readFileSync(join(ROOT, 'node_modules/axe-core/axe.min.js'), 'utf8');
const PAGE = join(ROOT, 'docs/openapi.html');

let browser: Browser;

test.before(async () => { browser = await startChromium(); });
test.after(() => browser.close());

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
