/** Hands on what workers write to standard error, where that is a socket. */
import type { Readable } from 'node:stream';
import type { LogWriter } from './writer.ts';

/**
 * Processes that share a socket share the flag that keeps a write to it from blocking, and each
 * that starts or ends resets it (libuv and Node do so): a write that another process is about to
 * make then waits for a reader who is stuck, and its process never ends. So every worker has a
 * socket to the first process as its own, and only that one writes to the socket of the outside.
 */
export class LogRelay {
  readonly #writer: LogWriter;
  readonly #open = new Set<Promise<void>>();

  /** @param writer takes the lines; one whose reader is stuck holds up those who write here */
  constructor(writer: LogWriter) {
    this.#writer = writer;
  }

  /** Hands on the lines of one worker until its end, as they are, whatever bytes are in them. */
  readonly forward = (stream: Readable): void => {
    const work = this.#forward(stream).finally(() => this.#open.delete(work));
    this.#open.add(work);
  };

  /** Resolves when all that were followed have waitForEnd and their lines are with the writer. */
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
      // What came before the stream failed is handed on; that the worker ends, others notice.
    }
    if (partial !== '') this.#writer.push(`${partial}\n`);
  }
}
