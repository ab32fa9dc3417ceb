/**
 * Writes lines to standard error and never waits for whoever reads it: what cannot be written yet
 * is kept, up to a bound; beyond it lines are dropped, and counted.
 */
import { constants, fstatSync, openSync, write, writeSync } from 'node:fs';

/** About 3,000 lines; all that a reader who is stuck can make a process keep. */
const KEPT_MAX_BYTES = 1024 * 1024;

/** PIPE_BUF: a write of no more is never mixed with those of other processes (pipe(7)). */
const PIPE_CHUNK_MAX_BYTES = 4096;

/** A unix socket takes as much in one piece. */
const CHUNK_MAX_BYTES = 32 * 1024;

/** How soon a reader who was too slow is tried again. */
const RETRY_MS = 5;

/** So long after a write lines are gathered: each write costs far more than a line. */
const REST_MS = 10;

/**
 * The writer of one process. A pipe is opened anew, so that writing to it never blocks, whatever
 * others do to theirs; it is then written to at once. Anything else may block, if only for a disk,
 * and is written to in another thread.
 */
export class LogWriter {
  /** Lines that were dropped since the start. */
  dropped = 0;
  /** Whether others who write to the same socket could make a write block: see LogRelay. */
  readonly isSocket: boolean;
  readonly #fd: number;
  readonly #isImmediate: boolean;
  readonly #chunkMaxBytes: number;
  readonly #describeDropped: (count: number) => string;
  /** Those that are not being written yet, and their size. */
  readonly #lines: string[] = [];
  #bytes = 0;
  /** What is being written, and of how many lines it was made. */
  #chunk: Buffer | null = null;
  #chunkLines = 0;
  #unreported = 0;
  /**
   * `due`: at the end of this turn. `writing`: in another thread, or the reader was too slow.
   * `resting`: a write has just ended.
   */
  #state: 'idle' | 'due' | 'writing' | 'resting' = 'idle';
  #onEmpty: () => void = () => {};
  #onRoom: (() => void)[] = [];

  /**
   * @param fd where to
   * @param describeDropped makes the line that says how many were dropped, once it flows again
   */
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
   * Takes a line, which is written after this turn of the event loop, or a moment later.
   *
   * @param line ASCII, with its end; no longer than what a pipe takes in one piece
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

  /** Resolves when it keeps so little that no line of the next 64 KiB will be dropped. */
  waitForRoom(): Promise<void> {
    if (this.#hasRoom) return Promise.resolve();
    return new Promise((resolve) => { this.#onRoom.push(resolve); });
  }

  /** Resolves when all is written, which is never while the reader is stuck. */
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

  /** Makes the next lines a chunk, when there is none; false when nothing is left. */
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

  /** Notes how a write ended; false when the next one is not to be begun now. */
  #onWriteEnd(error: NodeJS.ErrnoException | null, count: number): boolean {
    if (error?.code === 'EAGAIN') {
      setTimeout(this.#pump, RETRY_MS).unref();
      return false;
    }
    if (error !== null) {
      // Nobody reads any more, or the disk is full: the next lines may fare better.
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

  /** The process ends in this turn: writes what was not begun. A reader who is stuck gets none. */
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

/** Opens a pipe anew, so that writing to it never blocks; null where that cannot be done. */
function openNonBlocking(fd: number): number | null {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch {
    return null;
  }
}
