/** One keep-alive connection of a client that checks what it gets, byte for byte. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';

/** A whole answer. */
export type Answer = Readonly<{ status: number; head: string; body: string; ms: number }>;

/** Over the 3 s of the contract by what a loaded machine may add. */
const ANSWER_MAX_MS = 5000;

/** Sends one request at a time; opens another connection when one is gone. */
export class Wire {
  readonly #port: number;
  #socket: Socket | null = null;
  #text = '';
  #settle: (answer: Answer | null) => void = () => {};
  #sentAt = 0;

  constructor(port: number) {
    this.#port = port;
  }

  /** Sends a request; null when the connection broke before its answer was whole. */
  send(request: string): Promise<Answer | null> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#end(), ANSWER_MAX_MS);
      this.#settle = (answer) => {
        clearTimeout(timer);
        this.#settle = () => {};
        resolve(answer);
      };
      this.#sentAt = performance.now();
      this.#socket ??= this.#open();
      this.#socket.write(request, 'latin1');
    });
  }

  /** Ends the connection. */
  close(): void {
    this.#socket?.destroy();
  }

  #open(): Socket {
    const socket = connect(this.#port, '127.0.0.1').setNoDelay(true).setEncoding('latin1');
    this.#text = '';
    socket.on('data', (part: string) => this.#take(part));
    socket.on('error', () => {});
    socket.on('close', () => { if (socket === this.#socket) this.#end(); });
    return socket;
  }

  #end(): void {
    this.#socket?.destroy();
    this.#socket = null;
    this.#settle(null);
  }

  #take(part: string): void {
    this.#text += part;
    const end = this.#text.indexOf('\r\n\r\n');
    if (end === -1) return;
    const head = this.#text.slice(0, end);
    const from = end + 4;
    const length = Number(/\r\nContent-Length: (\d+)/.exec(head)?.[1] ?? 0);
    if (this.#text.length < from + length) return;
    const body = this.#text.slice(from, from + length);
    this.#text = this.#text.slice(from + length);
    const ms = performance.now() - this.#sentAt;
    const settle = this.#settle;
    if (/\r\nConnection: close/.test(head)) this.#forget();
    settle({ status: Number(head.slice(9, 12)), head, body, ms });
  }

  /** It will be closed, and nothing waits for it. */
  #forget(): void {
    const socket = this.#socket;
    this.#socket = null;
    socket?.end();
  }
}
