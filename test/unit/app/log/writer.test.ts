/** LogWriter on a pipe, and LogRelay, which forwards the lines of workers to it. */
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
import { LogRelay, LogWriter, setNonBlocking } from '../../../../src/app/log/writer.ts';
import { eventually } from '../../../harness/waiting.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Every line differs, so V8 cannot share its memory with another. */
const LINE_BYTES = 400;
const lineOf = (number: number) => `${String(number).padStart(LINE_BYTES - 1, '.')}\n`;

/** The output of a worker: 4 MB in pieces of 40 kB; the writer buffers at most 1 MiB. */
const PIECES = 100;
const PIECE_LINES = 100;

const BACKLOG_LINES = 1000;
const LINES = 100_000;

/** All lines are 40 MB; the lines that wait at a time are at most 1 MiB. */
const GROWTH_MAX_BYTES = 10_000_000;

/** A writer on a pipe. The test reads from the pipe only by calling `read`. */
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

  /** Reads up to 64 KiB without waiting. */
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

test('the writer releases written lines while the reader stays behind', async () => {
  const pipe = new Piped();
  let pushed = 0;
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  while (pushed < LINES) {
    // The reader stays at least one backlog behind.
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
  await eventually('every line is read', () => {
    pipe.read();
    return pipe.readBytes === pushed * LINE_BYTES;
  });
  await pipe.writer.waitUntilEmpty();
  pipe.close();
});

test('the relay forwards whole lines byte for byte, also from a stream that fails', async () => {
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
  await eventually('every line is read', () => {
    pipe.read({ isKept: true });
    return pipe.text === '\xff\0\xc3\nfirst, then second\nthird\nfatal\n';
  });
  pipe.close();
});

test('a stuck reader makes workers wait and loses none of their lines', async () => {
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
  await eventually('every line is read', () => {
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
