/** The V8 flag that limits the heap. */
import { execFileSync } from 'node:child_process';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { limitHeapGrowth } from '../../../../src/app/serve.ts';

test('this Node.js knows the flag that limits the growth of the heap', () => {
  // V8 ignores a flag that it does not know, so the call alone proves nothing.
  limitHeapGrowth();
  const options = execFileSync(process.execPath, ['--v8-options'], { encoding: 'utf8' });
  assert.match(options, /^ +--heap-growing-percent /m);
});

test.run();
