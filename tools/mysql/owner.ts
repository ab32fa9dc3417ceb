/**
 * A lock file per data folder that survives no kill -9. Owner files are numbered, and the highest
 * number is the lock. The lock holds while the process that the file names is alive and has not
 * released it. link(2) creates a complete file, and only once per number: of several processes
 * that claim the folder at the same time, exactly one succeeds.
 */
import { randomUUID } from 'node:crypto';
import { link, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MysqlServerError, errorCode } from './error.ts';
import { startMark } from './processes.ts';

/** Another process wins each round that this one loses, so even a second round is rare. */
const CLAIM_ROUNDS_MAX = 100;

/**
 * The highest numbers that are kept. readdir is not atomic: it can miss a file that is removed
 * and one that is added during the call. It misses all kept files only if the folder changes its
 * owner this many times during one call.
 */
const KEPT_NUMBERS = 8;

/** The content of an owner file. */
type OwnerRecord = Readonly<{ pid: number; startTime: string; released: boolean }>;

/** Ownership of a folder. `release` is idempotent. */
type Ownership = Readonly<{ release: () => Promise<void> }>;

/**
 * Makes this process the owner of a folder.
 *
 * @param folder an existing folder on a local file system
 * @throws MysqlServerError with the id of the process that owns the folder
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
    // The list was out of date: a higher number exists, so this file is not the lock.
    await removeNumbers(folder, [mine]);
  }
  throw new MysqlServerError([
    `Too many processes claim the folder ${folder} at the same time.`,
    'Start again when the others have ended.',
  ]);
}

async function refuseWhileOwned(folder: string, number: number): Promise<void> {
  const record = await readRecord(folder, number);
  if (!record || record.released) return;
  if ((await startMark(record.pid)) !== record.startTime) return;
  throw new MysqlServerError([
    `The folder ${folder} is in use: the otpd with process id ${record.pid} runs its MySQL there.`,
    `Use that otpd, or stop it first (kill ${record.pid}). DATA_FOLDER names another folder.`,
  ]);
}

/** The existing numbers in ascending order. */
async function ownerNumbers(folder: string): Promise<number[]> {
  const names = await readdir(folder);
  return names
    .map((name) => Number(/^owner\.([1-9]\d{0,14})$/.exec(name)?.[1] ?? 0))
    .filter((number) => number > 0)
    .sort((a, b) => a - b);
}

/** Undefined when the file has been removed by a new owner, or has another content. */
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

/** False when another process has taken the number. */
async function linkRecord(folder: string, number: number, record: OwnerRecord): Promise<boolean> {
  const temporary = await writeTemporary(folder, record);
  try {
    await link(temporary, ownerPath(folder, number));
    return true;
  } catch (error) {
    // ENOENT: a new owner has removed the temporary file. The next round finds that owner.
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
    // Tests remove the folder before the release.
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}

async function writeTemporary(folder: string, record: OwnerRecord): Promise<string> {
  const path = join(folder, `owner-${randomUUID()}.partial`);
  await writeFile(path, `${JSON.stringify(record)}\n`, { mode: 0o600, flag: 'wx' });
  return path;
}

/** Removes the temporary files of processes that were killed during a claim. */
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
