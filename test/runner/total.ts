/** The closing line of `.ci/run`: the counts of both lanes. A lane without a result has failed. */
import { readResult } from './record.ts';

const results = (['fast', 'proof'] as const).map((lane) => readResult(lane));
const sum = (kind: 'passed' | 'failed'): number =>
  results.reduce((total, result) => total + (result?.[kind] ?? (kind === 'failed' ? 1 : 0)), 0);

process.stdout.write(`\n${sum('passed')} passed, ${sum('failed')} failed\n`);
process.exitCode = sum('failed') === 0 ? 0 : 1;
