/** A durable MySQL on a small file system, which a test fills up. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createMigrated, newDatabaseName, settingsFor } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { withSmallDisk } from '../harness/namespace.ts';
import { compiledTest } from '../harness/program.ts';

export type SmallDisk = Readonly<{
  database: TestDatabase;
  /** Fills the file system to the last page. */
  fill: () => void;
  makeRoom: () => void;
  stop: () => Promise<void>;
}>;

/** The files of MySQL take 170 MB at its start. */
const DISK_BYTES = 220_000_000;

const PROGRAM = compiledTest('proof/small-disk-child.ts');

/** Starts a server with an empty, migrated database. Requires canMount(). */
export async function startOnSmallDisk(): Promise<SmallDisk> {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-small-'));
  const [program = '', ...before] = withSmallDisk(folder, DISK_BYTES);
  const child = spawn(program, [...before, process.execPath, PROGRAM, folder], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const ended = once(child, 'exit');
  const [{ socketPath }] = await once(child, 'message') as [{ socketPath: string }];
  // The file system is mounted in the namespace of that process only.
  const seen = `/proc/${child.pid}/root`;
  const database = await createMigrated(settingsFor(newDatabaseName(), `${seen}${socketPath}`));
  const filler = `${seen}${folder}/filler`;
  return {
    database,
    fill: () => fill(filler),
    makeRoom: () => rmSync(filler),
    stop: async () => {
      database.close();
      child.disconnect();
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Writes until the file system is full, to the last page. */
function fill(path: string): void {
  const file = openSync(path, 'w');
  const block = Buffer.alloc(1_048_576);
  for (const length of [block.length, 4096]) while (hasRoomFor(file, block, length));
  closeSync(file);
}

function hasRoomFor(file: number, block: Buffer, length: number): boolean {
  try {
    return writeSync(file, block, 0, length) > 0;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return false;
    throw error;
  }
}
