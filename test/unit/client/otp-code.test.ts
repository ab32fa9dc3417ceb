/** What can be known of client/otp-code.js without a browser: its size. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ROOT } from '../../harness/program.ts';

const SIZE_MAX_BYTES = 8192;

type Minifier = { transformSync: (text: string, options: object) => { code: string } };

test(`the component has less than ${SIZE_MAX_BYTES} bytes, minified and uncompressed`, () => {
  // The compiler that tsx brings; the component itself needs no build.
  const fromTsx = createRequire(createRequire(import.meta.url).resolve('tsx/package.json'));
  const { transformSync } = fromTsx('esbuild') as Minifier;
  const text = readFileSync(join(ROOT, 'client/otp-code.js'), 'utf8');
  const { code } = transformSync(text, { minify: true, charset: 'utf8', format: 'esm' });
  const bytes = Buffer.byteLength(code);
  assert.ok(bytes > 1000 && bytes < SIZE_MAX_BYTES, `${bytes} bytes`);
});

test.run();
