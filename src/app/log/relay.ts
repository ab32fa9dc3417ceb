/** Forwards the log lines of workers when standard error is a socket. */
import type { Readable } from 'node:stream';
import type { LogWriter } from './writer.ts';

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
