/**
 * Telling processes apart and ending them. A process id alone is not an identity, as ids are
 * used again; together with the time its process started it is.
 */
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { errorCode } from './local-server-error.ts';

/** Time mysqld has to write its pages and end; it needs well under a second when idle. */
const STOP_TIMEOUT_MS = 20_000;

/** After SIGKILL only the kernel is at work. */
const KILL_TIMEOUT_MS = 5_000;
const POLL_MS = 20;

/** What is at hand when `ps` is asked; it answers at once. */
const PS_TIMEOUT_MS = 5_000;
const PS_OUTPUT_MAX_BYTES = 16_777_216;

/** Field 22 of /proc/<pid>/stat (proc(5)), counted from the field after the program's name. */
const START_TIME_FIELD = 19;

const hasProc = process.platform === 'linux';

/**
 * When a process started, as text that no other process of the same id has: clock ticks since
 * boot and the boot itself on Linux, else what `ps` says. Safe as part of a file name.
 *
 * @returns undefined when there is no such process, or when it has ended and is only not reaped
 */
export async function startMark(processId: number): Promise<string | undefined> {
  return hasProc ? markFromProc(processId) : markFromPs(processId);
}

/** `startMark` by `ps`, for systems without /proc. */
export async function markFromPs(processId: number): Promise<string | undefined> {
  // One -o for each: after a `=` the rest of the argument would be a heading (POSIX, ps).
  const line = await ps(['-o', 'state=', '-o', 'lstart=', '-p', String(processId)]);
  if (line.trim() === '' || line.trim().startsWith('Z')) return undefined;
  return line.trim().split(/\s+/).slice(1).join('-').replace(/[^\w-]/g, '_');
}

async function markFromProc(processId: number): Promise<string | undefined> {
  const stat = await readProc(`/proc/${processId}/stat`);
  // The name is in parentheses and may contain any byte, so the last one ends it.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? [];
  const ticks = fields[START_TIME_FIELD];
  if (ticks === undefined || fields[0] === 'Z' || fields[0] === 'X') return undefined;
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8');
  return `${ticks}-${boot.trim()}`;
}

/**
 * The processes that were started with all of these arguments, whoever started them.
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

/** `processesWithArguments` by `ps`, which joins the arguments with spaces. */
export async function searchPs(wanted: readonly string[]): Promise<number[]> {
  const lines = (await ps(['-axww', '-o', 'pid=', '-o', 'command='])).split('\n');
  return lines
    .filter((line) => wanted.every((argument) => `${line} `.includes(` ${argument} `)))
    .map((line) => Number.parseInt(line, 10));
}

/**
 * Ends a process and waits until it is gone: SIGTERM, a bounded wait, SIGKILL.
 *
 * @returns false when it is still there after all of that
 * @throws `EPERM` when it belongs to someone else
 */
export async function endProcess(
  processId: number,
  stopTimeoutMs: number = STOP_TIMEOUT_MS,
): Promise<boolean> {
  const mark = await startMark(processId);
  if (mark === undefined) return true;
  signalProcess(processId, 'SIGTERM');
  if (await isGone(processId, mark, stopTimeoutMs)) return true;
  signalProcess(processId, 'SIGKILL');
  return isGone(processId, mark, KILL_TIMEOUT_MS);
}

/** Sends a signal; a process that is gone is no error. */
function signalProcess(processId: number, name: NodeJS.Signals): void {
  try {
    process.kill(processId, name);
  } catch (error) {
    if (errorCode(error) !== 'ESRCH') throw error;
  }
}

async function isGone(processId: number, mark: string, timeoutMs: number): Promise<boolean> {
  const deadline = AbortSignal.timeout(timeoutMs);
  while (!deadline.aborted) {
    if ((await startMark(processId)) !== mark) return true;
    await delay(POLL_MS);
  }
  return false;
}

/** A file of /proc, or undefined when its process ended or is hidden from us. */
async function readProc(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const gone = ['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(errorCode(error) ?? '');
    if (gone) return undefined;
    throw error;
  }
}

/** `ps` exits with 1 when it found none: an empty answer, not an error. */
async function ps(parameters: readonly string[]): Promise<string> {
  const limits = { timeout: PS_TIMEOUT_MS, maxBuffer: PS_OUTPUT_MAX_BYTES };
  try {
    return (await promisify(execFile)('ps', parameters, limits)).stdout;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 1) return '';
    throw error;
  }
}
