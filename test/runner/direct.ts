/** Runs pure test files from the source: without compiling the tree and without MySQL. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { findUndescribed } from '../harness/description-check.ts';
import { ROOT } from '../harness/program.ts';
import { runNode } from './program.ts';
import { Report } from './report.ts';

export async function runDirectly(files: readonly string[]): Promise<void> {
  const report = new Report(null);
  const folder = mkdtempSync(join(tmpdir(), 'otpd-answers-'));
  try {
    for (const file of files) {
      await report.countFile(relative(ROOT, file),
        () => runNode(['--import', 'tsx', file], { OTPD_TEST_LEAKS: folder }));
    }
    await report.check('every answer is described', () => findUndescribed([folder], false));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  report.close('');
}
