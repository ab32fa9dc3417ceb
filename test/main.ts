/**
 * npm test and npm run test:proof: each runs the test files of one lane. `npm test -- FILE…` runs
 * only those files, of either lane.
 */
import { resolve } from 'node:path';
import { laneFiles } from './runner/files.ts';
import { runDirectly } from './runner/direct.ts';
import { isPure } from './runner/files.ts';

const isProof = process.argv[2] === '--proof';
const chosen = process.argv.slice(isProof ? 3 : 2).map((file) => resolve(file));

if (chosen.length > 0 && chosen.every(isPure)) {
  await runDirectly(chosen);
} else {
  // lane.ts imports otpd, which a pure file need not wait for.
  const { runChosen, runLane } = await import('./runner/lane.ts');
  const lane = isProof ? 'proof' : 'fast';
  await (chosen.length > 0 ? runChosen(chosen) : runLane(lane, laneFiles(lane)));
}
