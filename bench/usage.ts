/** CPU time and memory of a process and its descendants. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';

/** CPU time since the start, of all threads and descendants, and resident memory now. */
export type Usage = Readonly<{ cpuUs: number; residentBytes: number }>;

type ProcessUsage = Usage & Readonly<{ id: number; parent: number }>;

/** Linux counts CPU time in ticks of 1/USER_HZ, 10 ms on every architecture that Node supports. */
const TICK_US = 10_000;
const PAGE_BYTES = 4096;
const PS_OUTPUT_MAX_BYTES = 16_777_216;

/** Reads the usage of a running process and all its descendants. */
export async function readUsage(processId: number): Promise<Usage> {
  const all = process.platform === 'linux'
    ? await fromProc(processId)
    : descendants(processId, await fromPs());
  return {
    cpuUs: all.reduce((sum, { cpuUs }) => sum + cpuUs, 0),
    residentBytes: all.reduce((sum, { residentBytes }) => sum + residentBytes, 0),
  };
}

/** Resident bytes of one process without its children; 0 after its exit. Linux only. */
export function readOwnBytes(processId: number): number {
  try {
    return Number(readFileSync(`/proc/${processId}/statm`, 'utf8').split(' ')[1]) * PAGE_BYTES;
  } catch {
    return 0;
  }
}

/** The child processes of a process; none after its exit. Linux only. */
export function childrenOf(id: number): number[] {
  try {
    return readFileSync(`/proc/${id}/task/${id}/children`, 'utf8')
      .split(' ').filter((text) => text.trim() !== '').map(Number);
  } catch {
    return [];
  }
}

async function fromProc(id: number): Promise<ProcessUsage[]> {
  const stat = await readFile(`/proc/${id}/stat`, 'utf8');
  // proc(5): the name is in parentheses; utime and stime are fields 14 and 15, rss is 24.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ').map(Number);
  const cpuUs = ((fields[11] ?? 0) + (fields[12] ?? 0)) * TICK_US;
  const residentBytes = (fields[21] ?? 0) * PAGE_BYTES;
  const usages = await Promise.all(childrenOf(id).map((child) => fromProc(child).catch(() => [])));
  return [{ id, parent: 0, cpuUs, residentBytes }, ...usages.flat()];
}

/** POSIX ps: time is [[dd-]hh:]mm:ss, rss is in kilobytes. */
async function fromPs(): Promise<ProcessUsage[]> {
  const { stdout } = await promisify(execFile)('ps', ['-axo', 'pid=,ppid=,rss=,time='], {
    maxBuffer: PS_OUTPUT_MAX_BYTES,
  });
  return stdout.split('\n').filter((line) => line.trim() !== '').map((line) => {
    const [id, parent, kilobytes, time = ''] = line.trim().split(/\s+/);
    const seconds = time.split(/[-:]/).reduce((sum, part) => sum * 60 + Number(part), 0);
    return {
      id: Number(id),
      parent: Number(parent),
      cpuUs: seconds * 1e6,
      residentBytes: Number(kilobytes) * 1024,
    };
  });
}

function descendants(root: number, all: readonly ProcessUsage[]): ProcessUsage[] {
  const children = all.filter(({ parent }) => parent === root);
  return [
    ...all.filter(({ id }) => id === root),
    ...children.flatMap(({ id }) => descendants(id, all)),
  ];
}
