/** The writer of the log by itself, and what hands the lines of workers on to it. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LogRelay } from '../../../../src/app/log/relay.ts';
import { LogWriter, setNonBlocking } from '../../../../src/app/log/writer.ts';
import { eventually } from '../../../harness/waiting.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Unlike any other text, so that it is kept by itself. */
const LINE_BYTES = 400;
const lineOf = (number: number) => `${String(number).padStart(LINE_BYTES - 1, '.')}\n`;

/** What workers say: 4 MB in pieces of 40 kB, of which the writer keeps 1 MiB at most. */
const PIECES = 100;
const PIECE_LINES = 100;

const BACKLOG_LINES = 1000;
const LINES = 100_000;

/** All lines together are 40 MB, those that wait at a time at most 1 MiB. */
const GROWTH_MAX_BYTES = 10_000_000;

/** A writer to a pipe, and what was read from it; nothing is read but when that is asked for. */
class Piped {
  readonly writer: LogWriter;
  readBytes = 0;
  text = '';
  readonly #folder = mkdtempSync(join(tmpdir(), 'otpd-writer-'));
  readonly #reader: number;
  readonly #fd: number;
  readonly #block = Buffer.alloc(65_536);

  constructor() {
    const path = join(this.#folder, 'pipe');
    execFileSync('mkfifo', [path]);
    this.#reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    this.#fd = openSync(path, 'w');
    this.writer = new LogWriter(this.#fd, (count) => `${count} were dropped\n`);
  }

  /** Reads what is there, up to 64 KiB. */
  read({ isKept = false } = {}): void {
    try {
      const count = readSync(this.#reader, this.#block);
      this.readBytes += count;
      if (isKept) this.text += this.#block.toString('latin1', 0, count);
    } catch (error) {
      assert.is((error as NodeJS.ErrnoException).code, 'EAGAIN');
    }
  }

  close(): void {
    closeSync(this.#fd);
    closeSync(this.#reader);
    rmSync(this.#folder, { recursive: true });
  }
}

test('lines that were written are not kept, however long the reader is behind', async () => {
  const pipe = new Piped();
  let pushed = 0;
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  while (pushed < LINES) {
    // Never less than a backlog waits.
    while (pushed * LINE_BYTES - pipe.readBytes < 2 * BACKLOG_LINES * LINE_BYTES) {
      pipe.writer.push(lineOf(pushed));
      pushed += 1;
    }
    pipe.read();
    await nextTurn();
  }
  collectGarbage();
  const growth = process.memoryUsage().heapUsed - before;
  assert.ok(growth < GROWTH_MAX_BYTES, `${growth} bytes more`);
  assert.is(pipe.writer.dropped, 0);
  await eventually('all is read', () => {
    pipe.read();
    return pipe.readBytes === pushed * LINE_BYTES;
  });
  await pipe.writer.waitUntilEmpty();
  pipe.close();
});

test('what workers say: whole lines, all bytes as they are, also of one that fails', async () => {
  const pipe = new Piped();
  const relay = new LogRelay(pipe.writer);
  const [one, other] = [new PassThrough(), new PassThrough()];
  relay.forward(one);
  relay.forward(other);
  one.write(Buffer.from('first, '));
  other.write(Buffer.from([0xff, 0x00, 0xc3, 0x0a]));
  await nextTurn();
  one.write(Buffer.from('then second\nthird\nfatal'));
  other.end();
  await nextTurn();
  one.destroy(new Error('by a test'));
  await relay.waitForEnd();
  await eventually('all is read', () => {
    pipe.read({ isKept: true });
    return pipe.text === '\xff\0\xc3\nfirst, then second\nthird\nfatal\n';
  });
  pipe.close();
});

test('a reader who is stuck holds up workers, and costs none of their lines', async () => {
  const pipe = new Piped();
  const relay = new LogRelay(pipe.writer);
  const pieces = Array.from({ length: PIECES }, (_, piece) =>
    Array.from({ length: PIECE_LINES }, (__, line) => lineOf(piece * PIECE_LINES + line)).join(''));
  let taken = 0;
  relay.forward(Readable.from(function* () {
    for (const piece of pieces) {
      taken += 1;
      yield piece;
    }
  }(), { highWaterMark: 1 }));
  for (let turn = 0; turn < 10 * PIECES; turn += 1) await nextTurn();
  assert.ok(taken < PIECES / 2, `${taken} pieces were taken`);
  await eventually('all is read', () => {
    pipe.read({ isKept: true });
    return pipe.text.length === pieces.length * PIECE_LINES * LINE_BYTES;
  });
  assert.ok(pipe.text === pieces.join(''), 'another order');
  assert.is(pipe.writer.dropped, 0);
  await relay.waitForEnd();
  pipe.close();
});

type Internals = { _handle: { fd: number; setBlocking: (isBlocking: boolean) => number } };

test('this Node.js makes a socket non-blocking again after a reset', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-writer-'));
  const server = createServer().listen(join(folder, 'socket'));
  await once(server, 'listening');
  const socket = connect(join(folder, 'socket'));
  await once(socket, 'connect');
  const { _handle: handle } = socket as unknown as Internals;
  const isNonBlocking = (): boolean => {
    const info = readFileSync(`/proc/self/fdinfo/${handle.fd}`, 'utf8');
    return (parseInt(/flags:\s+(\d+)/.exec(info)![1]!, 8) & constants.O_NONBLOCK) !== 0;
  };
  handle.setBlocking(true);
  assert.not.ok(isNonBlocking());
  setNonBlocking(socket);
  assert.ok(isNonBlocking());
  socket.destroy();
  server.close();
  rmSync(folder, { recursive: true });
});

test.run();
