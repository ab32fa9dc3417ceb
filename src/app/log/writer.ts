/**
 * Writes log lines without ever blocking on their reader. Lines that cannot be written yet are
 * buffered up to a bound; further lines are dropped and counted. A relay writes the lines of
 * workers when standard error is a socket.
 */
import { constants, fstatSync, openSync, write, writeSync } from 'node:fs';
import type { Readable } from 'node:stream';

/** The size of the buffer: about 3,000 lines. Bounds the memory that a stuck reader costs. */
const KEPT_MAX_BYTES = 1024 * 1024;

/** PIPE_BUF: writes up to this size never interleave with those of other processes (pipe(7)). */
const PIPE_CHUNK_MAX_BYTES = 4096;

/** A Unix socket accepts this size in one piece. */
const CHUNK_MAX_BYTES = 32 * 1024;

/** Pause before the next attempt when the pipe is full. */
const RETRY_MS = 5;

/** Lines are collected for this long after a write, because a write costs far more than a line. */
const REST_MS = 10;

/**
 * The writer of one process. It opens a pipe a second time, with a file description of its own, so
 * that O_NONBLOCK is not shared with other processes, and writes to it synchronously. A write to
 * anything else may block, even if only on a disk, and therefore runs in the thread pool.
 */
export class LogWriter {
  /** Lines dropped since the start. */
  dropped = 0;
  /** True when another process could make a write block; LogRelay has the reason. */
  readonly isSocket: boolean;
  readonly #fd: number;
  readonly #isImmediate: boolean;
  readonly #chunkMaxBytes: number;
  readonly #describeDropped: (count: number) => string;
  /** The buffered lines and their total size. */
  readonly #lines: string[] = [];
  #bytes = 0;
  /** The bytes being written, and the number of their lines. */
  #chunk: Buffer | null = null;
  #chunkLines = 0;
  #unreported = 0;
  /**
   * `due`: a write follows in this turn of the event loop. `writing`: a write runs in the thread
   * pool or waits for room in the pipe. `resting`: lines are collected after a write.
   */
  #state: 'idle' | 'due' | 'writing' | 'resting' = 'idle';
  #onEmpty: () => void = () => {};
  #onRoom: (() => void)[] = [];

  /** @param describeDropped formats the line that reports dropped lines after a gap */
  constructor(fd: number, describeDropped: (count: number) => string) {
    const stats = fstatSync(fd);
    const isPipe = stats.isFIFO();
    const own = isPipe ? openNonBlocking(fd) : null;
    this.#fd = own ?? fd;
    this.#isImmediate = own !== null;
    this.isSocket = stats.isSocket();
    this.#chunkMaxBytes = isPipe ? PIPE_CHUNK_MAX_BYTES : CHUNK_MAX_BYTES;
    this.#describeDropped = describeDropped;
    process.on('exit', () => this.#writeLast());
  }

  /**
   * Buffers a line, which is written after this turn of the event loop or after REST_MS.
   *
   * @param line ASCII with its newline, no longer than PIPE_CHUNK_MAX_BYTES
   */
  push(line: string): void {
    if (this.#bytes + line.length > KEPT_MAX_BYTES) {
      this.#countDropped(1);
      return;
    }
    this.#keep(line);
    if (this.#state !== 'idle') return;
    this.#state = 'due';
    setImmediate(this.#pump);
  }

  /** Resolves when the buffer is at most half full. */
  waitForRoom(): Promise<void> {
    if (this.#hasRoom) return Promise.resolve();
    return new Promise((resolve) => { this.#onRoom.push(resolve); });
  }

  /** Resolves when every line is written; never while the reader is stuck. */
  waitUntilEmpty(): Promise<void> {
    if (this.#state === 'resting') this.#pump();
    if (this.#bytes === 0 && this.#chunk === null) return Promise.resolve();
    return new Promise((resolve) => { this.#onEmpty = resolve; });
  }

  get #hasRoom(): boolean {
    return this.#bytes < KEPT_MAX_BYTES / 2;
  }

  #keep(line: string): void {
    this.#lines.push(line);
    this.#bytes += line.length;
  }

  #countDropped(count: number): void {
    this.dropped += count;
    this.#unreported += count;
  }

  readonly #pump = (): void => {
    this.#state = 'writing';
    while (this.#take()) {
      if (!this.#isImmediate) {
        if (this.isSocket) setNonBlocking(process.stderr);
        write(this.#fd, this.#chunk!, this.#onWritten);
        return;
      }
      if (!this.#writeNow()) return;
    }
    this.#state = 'resting';
    setTimeout(this.#endRest, REST_MS).unref();
    this.#onEmpty();
  };

  readonly #endRest = (): void => {
    if (this.#state !== 'resting') return;
    this.#state = 'idle';
    if (this.#bytes > 0) this.#pump();
  };

  readonly #onWritten = (error: NodeJS.ErrnoException | null, count: number): void => {
    if (this.#onWriteEnd(error, count)) this.#pump();
  };

  #writeNow(): boolean {
    let count = 0;
    let writeError: NodeJS.ErrnoException | null = null;
    try {
      count = writeSync(this.#fd, this.#chunk!);
    } catch (error) {
      writeError = error as NodeJS.ErrnoException;
    }
    return this.#onWriteEnd(writeError, count);
  }

  /** Fills the chunk from the buffer unless it has bytes left; false when both are empty. */
  #take(): boolean {
    if (this.#chunk !== null) return true;
    let count = 0;
    let bytes = 0;
    for (const { length } of this.#lines) {
      if (count > 0 && bytes + length > this.#chunkMaxBytes) break;
      bytes += length;
      count += 1;
    }
    if (count === 0) return false;
    this.#chunk = Buffer.from(this.#lines.splice(0, count).join(''), 'latin1');
    this.#chunkLines = count;
    this.#bytes -= bytes;
    if (this.#hasRoom) for (const resolve of this.#onRoom.splice(0)) resolve();
    return true;
  }

  /** False when the next write has to wait. */
  #onWriteEnd(error: NodeJS.ErrnoException | null, count: number): boolean {
    if (error?.code === 'EAGAIN') {
      setTimeout(this.#pump, RETRY_MS).unref();
      return false;
    }
    if (error !== null) {
      // The reader is gone or the disk is full; a later write may succeed.
      this.#countDropped(this.#chunkLines);
      this.#chunk = null;
      return true;
    }
    this.#chunk = count < this.#chunk!.length ? this.#chunk!.subarray(count) : null;
    if (this.#unreported > 0 && this.#hasRoom) {
      this.#keep(this.#describeDropped(this.#unreported));
      this.#unreported = 0;
    }
    return true;
  }

  /** Writes the rest synchronously at exit, unless a write is already running or waiting. */
  #writeLast(): void {
    if (this.#state === 'writing') return;
    let isFlowing = true;
    while (isFlowing && this.#take()) isFlowing = this.#writeNow();
  }
}

/**
 * Makes a socket non-blocking. Called before each write to standard error: every process that
 * shares the socket, such as the shell that started otpd, may reset the flag, and a thread that
 * waits for a stuck reader would delay the exit of the process.
 *
 * `_handle` is internal to Node.js. Checked on Node.js 20.20, 22.23 and 24.21. Without `_handle`
 * a write may block, and nothing else changes.
 */
export function setNonBlocking(socket: NodeJS.WritableStream): void {
  type Internals = { _handle?: { setBlocking?: (isBlocking: boolean) => number } };
  (socket as Internals)._handle?.setBlocking?.(false);
}

/** Opens a pipe with a file description of its own; null where /proc does not allow it. */
function openNonBlocking(fd: number): number | null {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch {
    return null;
  }
}

/**
 * Processes that share a socket share its O_NONBLOCK flag, and libuv resets the flag in each
 * process that starts or exits. The next write of another process then blocks while the reader is
 * stuck, and that process never exits. Therefore each worker writes to a socket of its own, which
 * the primary process reads, and only the primary process writes to the shared socket.
 */
export class LogRelay {
  readonly #writer: LogWriter;
  readonly #open = new Set<Promise<void>>();

  /** @param writer while its reader is stuck, the workers wait */
  constructor(writer: LogWriter) {
    this.#writer = writer;
  }

  /** Forwards the lines of one worker byte for byte, until its stream ends. */
  readonly forward = (stream: Readable): void => {
    const work = this.#forward(stream).finally(() => this.#open.delete(work));
    this.#open.add(work);
  };

  /** Resolves when every stream has ended and the writer has its lines. */
  async waitForEnd(): Promise<void> {
    await Promise.all(this.#open);
  }

  async #forward(stream: Readable): Promise<void> {
    let partial = '';
    stream.setEncoding('latin1');
    try {
      for await (const text of stream) {
        const lines = `${partial}${text}`.split('\n');
        partial = lines.pop()!;
        await this.#writer.waitForRoom();
        for (const line of lines) this.#writer.push(`${line}\n`);
      }
    } catch {
      // The lines before the failure are forwarded; the pool handles the exit of the worker.
    }
    if (partial !== '') this.#writer.push(`${partial}\n`);
  }
}
