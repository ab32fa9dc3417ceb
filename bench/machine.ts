/** The machine and the versions of a run, without host names and paths. */
import { execFileSync } from 'node:child_process';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { ROOT } from './build.ts';
import type { Lab } from './lab.ts';
import { median } from './summary.ts';

/** Where, when and with which versions something was measured. */
export type Machine = Readonly<{
  /** The day in UTC. */
  date: string;
  /** The measured commit; `-dirty` when files differ from it. */
  commit: string;
  cores: number;
  cpu: string;
  memoryGb: number;
  system: string;
  node: string;
  mysql: string;
  load: string;
  /** Median time of one fsync, which decides how much a group commit saves. */
  syncUs: number;
}>;

const SYNC_SAMPLES = 200;
const SYNC_BYTES = 512;

/** The parts of a lab that are described. */
type MeasuredOn = Pick<Lab, 'program'>
  & Readonly<{ server: Pick<Lab['server'], 'version' | 'folder'> }>;

/** Describes the machine and measures an fsync in the folder of MySQL's data. */
export function describeMachine(lab: MeasuredOn): Machine {
  const [first] = cpus();
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: describeCommit(),
    cores: cpus().length,
    cpu: first?.model.trim() ?? 'unknown',
    memoryGb: Math.round(totalmem() / 2 ** 30),
    system: `${process.platform} ${process.arch}`,
    node: process.versions.node,
    mysql: lab.server.version,
    load: lab.program === 'wrk' ? 'wrk' : 'bench/load/generator.ts',
    syncUs: measureSync(lab.server.folder),
  };
}

/** One line for the head of a page. */
export function machineLine(machine: Machine): string {
  const { date, commit, cores, cpu, memoryGb, system, node, mysql, load, syncUs } = machine;
  return `Measured on ${date} at commit ${commit}: ${cores} cores (${cpu}), ${memoryGb} GB, ` +
    `${system}, Node ${node}, MySQL ${mysql}, load from ${load} on the same cores; one fsync ` +
    `takes ${syncUs} µs (median).`;
}

function describeCommit(): string {
  try {
    const parameters = ['describe', '--always', '--dirty', '--exclude=*'];
    return execFileSync('git', parameters, { cwd: ROOT, encoding: 'utf8' }).trim();
  } catch {
    return 'unknown';
  }
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
