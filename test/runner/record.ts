/**
 * The record of a lane: raw coverage, everything printed, the general log of MySQL, what the leak
 * check reads, and the counts. It stays until the lane runs again.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../harness/program.ts';
import type { Lane } from './files.ts';
import type { Counts } from './report.ts';

export const RECORD_FOLDER = join(ROOT, 'test-record');

export type LaneRecord = Readonly<{
  coverageFolder: string;
  /** The general log, and the files of the leak recorder. */
  leakFolder: string;
  outputFile: string;
}>;

/** `build` is the digest of what was tested. */
export type LaneResult = Counts & Readonly<{ build: string; seconds: number }>;

/** Where the record of a lane is, whether there is one or not. */
export function recordOf(lane: Lane): LaneRecord {
  const folder = join(RECORD_FOLDER, lane);
  return {
    coverageFolder: join(folder, 'coverage'),
    leakFolder: join(folder, 'leaks'),
    outputFile: join(folder, 'output.txt'),
  };
}

/** Begins the record of a lane; the one before is removed. */
export function createRecord(lane: Lane): LaneRecord {
  rmSync(join(RECORD_FOLDER, lane), { recursive: true, force: true });
  const record = recordOf(lane);
  for (const folder of [record.coverageFolder, record.leakFolder]) {
    mkdirSync(folder, { recursive: true });
  }
  return record;
}

/** The last thing that is written to a record: without it the lane has not come to its end. */
export function writeResult(lane: Lane, result: LaneResult): void {
  writeFileSync(resultFile(lane), `${JSON.stringify(result)}\n`);
}

/** Null when the lane has not run to its end. */
export function readResult(lane: Lane): LaneResult | null {
  try {
    return JSON.parse(readFileSync(resultFile(lane), 'utf8')) as LaneResult;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

function resultFile(lane: Lane): string {
  return join(RECORD_FOLDER, lane, 'result.json');
}
