/** The test files, the lane of each, and which run without MySQL. */
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { ROOT } from '../harness/program.ts';

/** `npm test` or `npm run test:proof`. */
export type Lane = 'fast' | 'proof';

const TESTS_FOLDER = join(ROOT, 'test');

/** The files of `test/` itself are fast, too. All folders not named here are proof. */
const FAST_FOLDERS: readonly string[] = ['', 'scenario', 'db', 'http', 'unit'];
const PURE_FOLDERS: readonly string[] = ['http', 'unit'];

/**
 * The longest files start first, so that no core is idle at the end of a lane; files that wait for
 * a lease or a bound come before those that compute.
 */
const LONG_FILES: readonly string[] = [
  'scenarios.test.ts', 'db/delivery/dispatcher.test.ts', 'http/over-tls.test.ts',
  'proof/delivery-crashes.test.ts', 'process/stopping.test.ts', 'process/main.test.ts',
  'proof/delivery.test.ts', 'proof/nginx.test.ts', 'proof/prometheus.test.ts',
  'proof/delivery-faults.test.ts',
  'proof/crashes.test.ts', 'proof/callers.test.ts',
  'proof/races.test.ts', 'proof/sweep.test.ts', 'proof/model.test.ts', 'process/log.test.ts',
  'process/rolling.test.ts', 'proof/storm.test.ts', 'proof/faults.test.ts',
];

export function testName(file: string): string {
  return relative(TESTS_FOLDER, file);
}

/** Whether a test file runs without MySQL; its folder decides. */
export function isPure(file: string): boolean {
  return PURE_FOLDERS.includes(topFolderOf(testName(file)));
}

/** The test files of a lane in the order in which they start. */
export function laneFiles(lane: Lane): string[] {
  const names = readdirSync(TESTS_FOLDER, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts') && laneOf(name) === lane);
  const rank = (name: string): number =>
    LONG_FILES.includes(name) ? LONG_FILES.indexOf(name) : LONG_FILES.length;
  return names.sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))
    .map((name) => join(TESTS_FOLDER, name));
}

function laneOf(name: string): Lane {
  return FAST_FOLDERS.includes(topFolderOf(name)) ? 'fast' : 'proof';
}

function topFolderOf(name: string): string {
  return name.includes('/') ? name.slice(0, name.indexOf('/')) : '';
}
