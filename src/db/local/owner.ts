/**
 * One owner per folder. Owner files are numbered; the highest number is the lock, and it holds
 * while the process named in it lives and has not released it. A file appears complete (it is
 * linked, not written, under its name) and a number can be linked only once, so of any number
 * of takers exactly one wins. No lock of the kernel is needed, and a kill -9 leaves no lock.
 */
import { randomUUID } from 'node:crypto';
import { link, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode, LocalServerError } from './local-server-error.ts';
import { startMark } from './running-process.ts';

/** Each lost round means that another taker won one, so a second round is rare already. */
const CLAIM_ROUNDS_MAX = 100;

/**
 * How many of the highest numbers stay. Reading a folder is not atomic: a file that is removed
 * and one that is added meanwhile can both be missed. With some kept, that takes as many
 * takeovers within one reading.
 */
const KEPT_NUMBERS = 8;

/** What an owner file says. */
type OwnerRecord = Readonly<{ pid: number; startTime: string; released: boolean }>;

/** The folder is ours until `release`; releasing twice is the same as once. */
type Ownership = Readonly<{ release: () => Promise<void> }>;

/**
 * Makes this process the owner of a folder.
 *
 * @param folder an existing folder on a local file system
 * @throws LocalServerError naming the process that owns it
 */
export async function claimOwnership(folder: string): Promise<Ownership> {
  const startTime = await startMark(process.pid);
  if (startTime === undefined) throw new Error('this process has no start time');
  const record = { pid: process.pid, startTime, released: false };
  for (let round = 0; round < CLAIM_ROUNDS_MAX; round += 1) {
    const highest = (await ownerNumbers(folder)).at(-1) ?? 0;
    if (highest > 0) await refuseWhileOwned(folder, highest);
    const mine = highest + 1;
    if (!(await linkRecord(folder, mine, record))) continue;
    const numbers = await ownerNumbers(folder);
    if (numbers.at(-1) === mine) {
      await removeNumbers(folder, numbers.slice(0, -KEPT_NUMBERS));
      await removeTemporaries(folder);
      return { release: () => replaceRecord(folder, mine, { ...record, released: true }) };
    }
    // The list was out of date: a higher number is there, so this one holds nothing.
    await removeNumbers(folder, [mine]);
  }
  throw new LocalServerError([
    `Too many processes want the folder ${folder} at once.`,
    'Start otpd again when the others have ended.',
  ]);
}

async function refuseWhileOwned(folder: string, number: number): Promise<void> {
  const record = await readRecord(folder, number);
  if (!record || record.released) return;
  if ((await startMark(record.pid)) !== record.startTime) return;
  throw new LocalServerError([
    `The folder ${folder} is in use: the otpd with process id ${record.pid} runs its MySQL there.`,
    'A folder has one owner at a time.',
    `Stop that process first (kill ${record.pid}), or use the one that is running.`,
  ]);
}

/** All numbers that exist, lowest first. */
async function ownerNumbers(folder: string): Promise<number[]> {
  const names = await readdir(folder);
  return names
    .map((name) => Number(/^owner\.([1-9]\d{0,14})$/.exec(name)?.[1] ?? 0))
    .filter((number) => number > 0)
    .sort((a, b) => a - b);
}

/** Undefined when it is gone (someone took over meanwhile) or is no record of ours. */
async function readRecord(folder: string, number: number): Promise<OwnerRecord | undefined> {
  try {
    const record: unknown = JSON.parse(await readFile(ownerPath(folder, number), 'utf8'));
    return isRecord(record) ? record : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function isRecord(value: unknown): value is OwnerRecord {
  if (typeof value !== 'object' || value === null) return false;
  const { pid, startTime, released } = value as Partial<OwnerRecord>;
  return Number.isInteger(pid) && typeof startTime === 'string' && typeof released === 'boolean';
}

/** True when the number was free and is ours now. */
async function linkRecord(folder: string, number: number, record: OwnerRecord): Promise<boolean> {
  const temporary = await writeTemporary(folder, record);
  try {
    await link(temporary, ownerPath(folder, number));
    return true;
  } catch (error) {
    // ENOENT: a new owner tidied the temporary file away. The next round will meet that owner.
    if (['EEXIST', 'ENOENT'].includes(errorCode(error) ?? '')) return false;
    throw error;
  } finally {
    await rm(temporary, { force: true });
  }
}

async function replaceRecord(folder: string, number: number, record: OwnerRecord): Promise<void> {
  try {
    await rename(await writeTemporary(folder, record), ownerPath(folder, number));
  } catch (error) {
    // The folder was removed, as tests do: there is nothing left to own.
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}

async function writeTemporary(folder: string, record: OwnerRecord): Promise<string> {
  const path = join(folder, `owner-${randomUUID()}.partial`);
  await writeFile(path, `${JSON.stringify(record)}\n`, { mode: 0o600, flag: 'wx' });
  return path;
}

/** What takers that were killed in the middle left behind. */
async function removeTemporaries(folder: string): Promise<void> {
  const names = (await readdir(folder)).filter((name) => /^owner-.*\.partial$/.test(name));
  await Promise.all(names.map((name) => rm(join(folder, name), { force: true })));
}

async function removeNumbers(folder: string, numbers: readonly number[]): Promise<void> {
  await Promise.all(numbers.map((number) => rm(ownerPath(folder, number), { force: true })));
}

function ownerPath(folder: string, number: number): string {
  return join(folder, `owner.${number}`);
}
