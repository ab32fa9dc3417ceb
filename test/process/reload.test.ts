/** SIGHUP of real processes: API keys are replaced, and with nothing to reload none ends. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { newVariables } from '../harness/command.ts';
import { childrenOf, startOtpd } from '../harness/otpd.ts';
import { newApiClients } from '../harness/api-clients.ts';
import { closeClient, send } from '../harness/client.ts';
import { withFolder } from '../harness/run.ts';
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

const CALLS = 10;

for (const WORKERS of ['1', '2']) {
  test(`SIGHUP puts new API keys into force in every process with WORKERS=${WORKERS}`, () =>
    withFolder(async (folder) => {
      const file = join(folder, 'api-keys');
      const { apiKeys, headersOf } = newApiClients(['app1', 'app2', 'app3']);
      const [one, two, three] = apiKeys.split(',');
      // The first process needs them for support on the admin listener.
      const processes = WORKERS === '1' ? 1 : Number(WORKERS) + 1;
      writeFileSync(file, `# the API clients\n${one}\n${two}\n`);
      const otpd = await startOtpd(await newVariables({ WORKERS, API_KEYS_FILE: file }));
      // Each connection may reach another process.
      const answersTo = async (name: string): Promise<number[]> => [...new Set(await Promise.all(
        Array.from({ length: CALLS }, async () => (await send({ port: otpd.port, method: 'GET',
          path: `/otp/${'ab'.repeat(16)}`,
          headers: { ...headersOf(name), Connection: 'close' } })).status)))];
      const reload = async (line: string): Promise<void> => {
        const count = () => otpd.output().split(line).length - 1;
        const before = count();
        otpd.signal('SIGHUP');
        await eventually(line, () => count() === before + processes);
      };
      const RELOADED = '"level":"info","event":"reloaded","name":"API_KEYS_FILE"';
      try {
        assert.equal(await Promise.all(['app1', 'app2', 'app3'].map(answersTo)),
          [[404], [404], [401]]);
        writeFileSync(file, `${one}:purposes=login,${three}`);
        await reload(`${RELOADED},"added":"app3","removed":"app2","changed":"app1"}`);
        assert.equal(await Promise.all(['app1', 'app2', 'app3'].map(answersTo)),
          [[404], [401], [404]]);
        for (const [text, fault] of [[`${one},junk`, 'API_KEYS: entry 2 must be'],
          ['', 'API_KEYS_FILE names a file that is empty'],
          [`${two}:not-after=2027-02-30`, 'API_KEYS: entry 1 may have after']] as const) {
          writeFileSync(file, text);
          await reload('"level":"error","event":"reload_failed","name":"API_KEYS_FILE"');
          await otpd.prints('the API keys in force stay; the new ones are at fault');
          await otpd.prints(fault);
        }
        assert.equal(await Promise.all(['app1', 'app2', 'app3'].map(answersTo)),
          [[404], [401], [404]]);
        writeFileSync(file, `${three}:not-after=2026-01-01,${two}`);
        await reload(`${RELOADED},"added":"app2","removed":"app1","changed":"app3"}`);
        assert.equal(await Promise.all(['app1', 'app2', 'app3'].map(answersTo)),
          [[401], [404], [401]]);
      } finally {
        closeClient();
        otpd.stop();
      }
      assert.is(await otpd.ended, 0);
    }));
}

test.run();
