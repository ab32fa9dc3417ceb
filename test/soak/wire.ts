/** A keep-alive connection of a client that reads responses byte for byte. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';

/** A complete response. */
export type Answer = Readonly<{ status: number; head: string; body: string; ms: number }>;

/** Above the 3 s of docs/api.md, "Errors", by what a loaded machine may add. */
const RESPONSE_TIMEOUT_MS = 5000;

/** Sends one request at a time and reconnects after a broken connection. */
export class Wire {
  readonly #port: number;
  #socket: Socket | null = null;
  #text = '';
  #settle: (answer: Answer | null) => void = () => {};
  #sentAt = 0;

  constructor(port: number) {
    this.#port = port;
  }

  /** Sends a request; null when the connection breaks or times out before the response ends. */
  send(request: string): Promise<Answer | null> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#disconnect(), RESPONSE_TIMEOUT_MS);
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

  close(): void {
    this.#socket?.destroy();
  }

  #open(): Socket {
    const socket = connect(this.#port, '127.0.0.1').setNoDelay(true).setEncoding('latin1');
    this.#text = '';
    socket.on('data', (part: string) => this.#read(part));
    socket.on('error', () => {});
    socket.on('close', () => { if (socket === this.#socket) this.#disconnect(); });
    return socket;
  }

  #disconnect(): void {
    this.#socket?.destroy();
    this.#socket = null;
    this.#settle(null);
  }

  #read(part: string): void {
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
    if (/\r\nConnection: close/.test(head)) this.#retire();
    settle({ status: Number(head.slice(9, 12)), head, body, ms });
  }

  /** Ends a connection that otpd is about to close; no request waits on it. */
  #retire(): void {
    const socket = this.#socket;
    this.#socket = null;
    socket?.end();
  }
}
