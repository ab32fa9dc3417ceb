/** A durable MySQL on a file system of its own that is small, and that a test fills. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createMigrated, newDatabaseName, settingsFor } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { withSmallDisk } from '../harness/namespace.ts';
import { compiledTest } from '../harness/program.ts';

/** The server and its one database. */
export type SmallDisk = Readonly<{
  database: TestDatabase;
  /** Leaves no byte free. */
  fill: () => void;
  makeRoom: () => void;
  stop: () => Promise<void>;
}>;

/** MySQL's own files take 170 MB at its start. */
const DISK_BYTES = 220_000_000;

const PROGRAM = compiledTest('proof/small-disk-child.ts');

/** Starts one with an empty, migrated database. Only where canMount() says so. */
export async function startOnSmallDisk(): Promise<SmallDisk> {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-small-'));
  const [program = '', ...before] = withSmallDisk(folder, DISK_BYTES);
  const child = spawn(program, [...before, process.execPath, PROGRAM, folder], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const ended = once(child, 'exit');
  const [{ socketPath }] = await once(child, 'message') as [{ socketPath: string }];
  // The file system as that process sees it: it is mounted there and nowhere else.
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
