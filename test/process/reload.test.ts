/** SIGHUP of real processes with nothing to reload: each reports it, and none ends. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { newVariables } from '../harness/command.ts';
import { childrenOf, startOtpd } from '../harness/otpd.ts';
import { eventually } from '../harness/waiting.ts';

const NOTHING = /"level":"info","event":"nothing_to_reload"/g;

test('SIGHUP with nothing to reload is logged by each serving process and ends none', async () => {
  for (const WORKERS of ['1', '2']) {
    const otpd = await startOtpd(await newVariables({ WORKERS }));
    const workers = childrenOf(otpd.processId);
    const countLines = () => otpd.output().match(NOTHING)?.length ?? 0;
    otpd.signal('SIGHUP');
    await eventually('every process has logged it', () => countLines() === Number(WORKERS));
    for (const id of workers) process.kill(id, 'SIGHUP');
    await eventually('the workers have, too', () =>
      countLines() === Number(WORKERS) + workers.length);
    assert.equal(childrenOf(otpd.processId), workers);
    otpd.stop();
    assert.is(await otpd.ended, 0);
  }
});

test.run();
