/** Runs pure test files from the source: without compiling the tree and without MySQL. */
import { relative } from 'node:path';
import { ROOT } from '../harness/program.ts';
import { runNode } from './program.ts';
import { Report } from './report.ts';

export async function runDirectly(files: readonly string[]): Promise<void> {
  const report = new Report(null);
  for (const file of files) {
    await report.countFile(relative(ROOT, file), () => runNode(['--import', 'tsx', file]));
  }
  report.close('');
}
