import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { canRun } from '../../harness/not-run.ts';
import { Report } from '../../runner/report.ts';

/** Runs work without its standard output, which the runner of this file reads, and returns that. */
async function withoutOutput(work: () => Promise<void>): Promise<string> {
  const { write } = process.stdout;
  let printed = '';
  process.stdout.write = ((text: string) => { printed += text; return true; });
  try {
    await work();
  } finally {
    process.stdout.write = write;
  }
  return printed;
}

test('a test that the machine cannot run is named before the counts and not counted', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-report-'));
  const kept = join(folder, 'output.txt');
  let result: boolean[] = [];
  const said = await withoutOutput(async () => {
    result = [canRun('otp.go', false, 'go is missing'), canRun('otp.py', true, 'no python3')];
  });
  assert.equal(result, [false, true]);
  const { exitCode } = process;
  const printed = await withoutOutput(async () => {
    const report = new Report(kept);
    await report.countFile('a.test.ts', async () =>
      ({ code: 0, output: `${said}  Total:     2\n  Passed:    2\n` }));
    await report.countFile('b.test.ts', async () =>
      ({ code: 0, output: '  Total:     1\n  Passed:    1\n' }));
    assert.equal(report.counts, { passed: 3, failed: 0 });
    report.close('');
  });
  process.exitCode = exitCode;
  assert.match(printed, /^ok {6}a\.test\.ts \(2 in 0 s\)\nok {6}b\.test\.ts \(1 in 0 s\)\n/);
  assert.match(printed, /\nnot run: otp\.go: go is missing\n\n3 passed, 0 failed\n$/);
  assert.match(readFileSync(kept, 'utf8'), /\nnot run: otp\.go: go is missing\n\n3 passed/);
  rmSync(folder, { recursive: true });
});

test.run();
