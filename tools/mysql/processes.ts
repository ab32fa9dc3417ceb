/**
 * Identifies, finds and ends processes. Process ids are reused, so an id identifies a process only
 * together with its start time.
 */
import { execFile } from 'node:child_process';
import { readFile, readdir } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { toolEnvironment } from './command.ts';
import { errorCode } from './error.ts';

/** mysqld writes its pages before it ends; when idle, that takes less than a second. */
const KILL_TIMEOUT_MS = 20_000;

/** After SIGKILL, only the kernel has work left. */
const REAP_TIMEOUT_MS = 5_000;
const POLL_MS = 20;

/** ps reads from the memory of the kernel, which takes milliseconds. */
const PS_TIMEOUT_MS = 5_000;
const PS_OUTPUT_MAX_BYTES = 16_777_216;

/** Field 22 of /proc/<pid>/stat (proc(5)), counted from the field after the program name. */
const START_TIME_FIELD = 19;

const hasProc = process.platform === 'linux';

/**
 * The start time of a process, which no other process with the same id has: the boot id and the
 * clock ticks since boot on Linux, the output of `ps` elsewhere. It can be part of a file name.
 *
 * @returns undefined when there is no such process, or only a zombie
 */
export async function startMark(processId: number): Promise<string | undefined> {
  return hasProc ? markFromProc(processId) : markFromPs(processId);
}

/** `startMark` for systems without /proc. */
export async function markFromPs(processId: number): Promise<string | undefined> {
  // Each column has its own -o: after a `=`, the rest of an argument is a heading (POSIX, ps).
  const line = await ps(['-o', 'state=', '-o', 'lstart=', '-p', String(processId)]);
  if (line.trim() === '' || line.trim().startsWith('Z')) return undefined;
  return line.trim().split(/\s+/).slice(1).join('-').replace(/[^\w-]/g, '_');
}

async function markFromProc(processId: number): Promise<string | undefined> {
  const stat = await readProc(`/proc/${processId}/stat`);
  // The program name may contain any byte, so the last parenthesis ends it.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? [];
  const ticks = fields[START_TIME_FIELD];
  if (ticks === undefined || fields[0] === 'Z' || fields[0] === 'X') return undefined;
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8');
  return `${ticks}-${boot.trim()}`;
}

/**
 * Finds the processes of any user that have all of these arguments.
 *
 * @param wanted whole arguments, such as `--datadir=/a/b`
 */
export async function processesWithArguments(wanted: readonly string[]): Promise<number[]> {
  return hasProc ? searchProc(wanted) : searchPs(wanted);
}

async function searchProc(wanted: readonly string[]): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const given = (await readProc(`/proc/${name}/cmdline`))?.split('\0') ?? [];
    if (wanted.every((argument) => given.includes(argument))) found.push(Number(name));
  }
  return found;
}

/** `processesWithArguments` for systems without /proc. ps joins the arguments with spaces. */
export async function searchPs(wanted: readonly string[]): Promise<number[]> {
  const lines = (await ps(['-axww', '-o', 'pid=', '-o', 'command='])).split('\n');
  return lines
    .filter((line) => wanted.every((argument) => `${line} `.includes(` ${argument} `)))
    .map((line) => Number.parseInt(line, 10));
}

/**
 * Ends a process and waits for its end: SIGTERM, a bounded wait, SIGKILL.
 *
 * @returns false when the process is still alive
 * @throws `EPERM` when the process belongs to another user
 */
export async function endProcess(
  processId: number,
  killTimeoutMs: number = KILL_TIMEOUT_MS,
): Promise<boolean> {
  const mark = await startMark(processId);
  if (mark === undefined) return true;
  signalProcess(processId, 'SIGTERM');
  if (await hasEnded(processId, mark, killTimeoutMs)) return true;
  signalProcess(processId, 'SIGKILL');
  return hasEnded(processId, mark, REAP_TIMEOUT_MS);
}

/** Sends a signal. A process that has ended is no error. */
function signalProcess(processId: number, name: NodeJS.Signals): void {
  try {
    process.kill(processId, name);
  } catch (error) {
    if (errorCode(error) !== 'ESRCH') throw error;
  }
}

async function hasEnded(processId: number, mark: string, timeoutMs: number): Promise<boolean> {
  const deadline = AbortSignal.timeout(timeoutMs);
  while (!deadline.aborted) {
    if ((await startMark(processId)) !== mark) return true;
    await delay(POLL_MS);
  }
  return false;
}

/** Undefined when the process has ended, or is hidden from this user. */
async function readProc(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(errorCode(error) ?? '')) return undefined;
    throw error;
  }
}

/** ps exits with 1 when no process matches, which is an empty result. */
async function ps(parameters: readonly string[]): Promise<string> {
  const limits = {
    env: toolEnvironment(), timeout: PS_TIMEOUT_MS, maxBuffer: PS_OUTPUT_MAX_BYTES,
  };
  try {
    return (await promisify(execFile)('ps', parameters, limits)).stdout;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 1) return '';
    throw error;
  }
}
