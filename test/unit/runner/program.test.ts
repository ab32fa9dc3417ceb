/** How long the programs of a test run may take. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { boundMs } from '../../runner/program.ts';

test('a run that is asked for by duration has that duration on top of the bound of all', () => {
  const all = boundMs({});
  assert.is(all, 400_000);
  assert.is(boundMs({ OTPD_TEST_SECONDS: '600' }), all + 600_000);
  for (const text of ['', '0', '-600', 'ten']) assert.is(boundMs({ OTPD_TEST_SECONDS: text }), all);
});

test.run();
