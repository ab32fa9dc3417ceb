/** The writer of the log by itself: what a reader who is always behind makes it keep. */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LogWriter } from '../src/log-writer.ts';
import { eventually } from './harness/waiting.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Unlike any other text, so that it is kept by itself. */
const LINE_BYTES = 400;
const lineOf = (number: number) => `${String(number).padStart(LINE_BYTES - 1, '.')}\n`;

const BACKLOG_LINES = 1000;
const LINES = 100_000;

/** All lines together are 40 MB, those that wait at a time at most 1 MiB. */
const GROWTH_MAX_BYTES = 10_000_000;

test('lines that were written are not kept, however long the reader is behind', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-writer-'));
  const path = join(folder, 'pipe');
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const fd = openSync(path, 'w');
  const writer = new LogWriter(fd, (count) => `${count} were dropped\n`);
  const block = Buffer.alloc(65_536);
  let readBytes = 0;
  const read = (): void => {
    try {
      readBytes += readSync(reader, block);
    } catch (error) {
      assert.is((error as NodeJS.ErrnoException).code, 'EAGAIN');
    }
  };
  let pushed = 0;
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  while (pushed < LINES) {
    // Never less than a backlog waits.
    while (pushed * LINE_BYTES - readBytes < 2 * BACKLOG_LINES * LINE_BYTES) {
      writer.push(lineOf(pushed));
      pushed += 1;
    }
    read();
    await nextTurn();
  }
  collectGarbage();
  const growth = process.memoryUsage().heapUsed - before;
  assert.ok(growth < GROWTH_MAX_BYTES, `${growth} bytes more`);
  assert.is(writer.dropped, 0);
  await eventually('all is read', () => {
    read();
    return readBytes === pushed * LINE_BYTES;
  });
  await writer.flush(1000);
  closeSync(fd);
  closeSync(reader);
  rmSync(folder, { recursive: true });
});

test.run();
