/** Chromium for tests, without a window: 100 MB to fetch where none is installed. */
import { chromium } from 'playwright-core';
import type { Browser } from 'playwright-core';
import { obtainProgram } from './debian.ts';

/** The tests run as root too, and nothing may be fetched or reported in the background. */
const ARGUMENTS = ['--no-sandbox', '--disable-background-networking', '--disable-gpu',
  '--disable-component-update', '--disable-sync', '--no-first-run'];

/** Starts Chromium; the caller closes it. */
export async function startChromium(): Promise<Browser> {
  const { program, env } = await obtainProgram({
    product: 'chromium',
    installed: ['chromium', 'chromium-headless-shell', 'google-chrome'],
    package: 'chromium-headless-shell',
    folder: 'usr/lib/chromium',
    file: /^chromium-headless-shell$/,
    libraries: ['pulseaudio'],
    version: ['--version', '--no-sandbox'],
  });
  return chromium.launch({ executablePath: program, env, args: ARGUMENTS });
}
