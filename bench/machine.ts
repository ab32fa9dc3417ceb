/** What a reader must know of the machine: no name of it and no path on it. */
import { fsyncSync, closeSync, openSync, writeSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import type { Lab } from './lab.ts';
import { median } from './summary.ts';

/** The machine and its programs. */
export type Machine = Readonly<{
  cores: number;
  cpu: string;
  memoryGb: number;
  system: string;
  node: string;
  mysql: string;
  load: string;
  /** What one durable write costs here: it decides how far group commit carries. */
  syncUs: number;
}>;

const SYNC_SAMPLES = 200;
const SYNC_BYTES = 512;

/** Describes the machine, and measures its fsync where the data of MySQL are. */
export function describeMachine(lab: Pick<Lab, 'server' | 'program'>): Machine {
  const [first] = cpus();
  return {
    cores: cpus().length,
    cpu: first?.model.trim() ?? 'unknown',
    memoryGb: Math.round(totalmem() / 2 ** 30),
    system: `${process.platform} ${process.arch}`,
    node: process.versions.node,
    mysql: lab.server.version,
    load: lab.program === 'wrk' ? 'wrk' : 'its own generator',
    syncUs: measureSync(lab.server.folder),
  };
}

function measureSync(folder: string): number {
  const file = openSync(join(folder, 'sync'), 'w');
  const block = Buffer.alloc(SYNC_BYTES, 'x');
  const times = Array.from({ length: SYNC_SAMPLES }, () => {
    writeSync(file, block);
    const began = process.hrtime.bigint();
    fsyncSync(file);
    return Number(process.hrtime.bigint() - began) / 1e3;
  });
  closeSync(file);
  return Math.round(median(times));
}
