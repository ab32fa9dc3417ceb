/**
 * The record of a lane: raw coverage, all output, the general log of MySQL, the texts for the leak
 * check, and the counts. It stays until the lane runs again.
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

/** `build` is the digest of the tested code. */
export type LaneResult = Counts & Readonly<{ build: string; seconds: number }>;

export function recordOf(lane: Lane): LaneRecord {
  const folder = join(RECORD_FOLDER, lane);
  return {
    coverageFolder: join(folder, 'coverage'),
    leakFolder: join(folder, 'leaks'),
    outputFile: join(folder, 'output.txt'),
  };
}

/** Starts the record of a lane and removes the previous one. */
export function createRecord(lane: Lane): LaneRecord {
  rmSync(join(RECORD_FOLDER, lane), { recursive: true, force: true });
  const record = recordOf(lane);
  for (const folder of [record.coverageFolder, record.leakFolder]) {
    mkdirSync(folder, { recursive: true });
  }
  return record;
}

/** Written last: a record without a result belongs to a lane that did not finish. */
export function writeResult(lane: Lane, result: LaneResult): void {
  writeFileSync(resultFile(lane), `${JSON.stringify(result)}\n`);
}

/** Null when the lane has not finished. */
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
