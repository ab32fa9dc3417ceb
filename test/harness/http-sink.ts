/**
 * A provider for tests: an HTTP server on loopback that records every request and answers or fails
 * as the test says.
 */
import { createServer } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { eventually } from './waiting.ts';

/** A complete request. */
export type Received = Readonly<{
  method: string;
  path: string;
  headers: IncomingHttpHeaders;
  body: string;
  /** The number of the connection, from 1. */
  connection: number;
}>;

/** Answers one request. */
export type Behaviour = (response: ServerResponse, received: Received) => void;

export type SinkOptions = Readonly<{
  /** 0 by default: any free port. */
  port?: number;
  /** In PEM; with it the sink speaks TLS. */
  tls?: Readonly<{ key: string; cert: string }>;
  /** The first behaviour; by default a 200. */
  behaviour?: Behaviour;
}>;

export function answer(
  status: number,
  headers: Readonly<Record<string, string>> = {},
  body = '',
): Behaviour {
  return (response) => { response.writeHead(status, headers).end(body); };
}

/** Answers 429. */
export function tooMany(retryAfter: number | string): Behaviour {
  return answer(429, { 'Retry-After': String(retryAfter) });
}

export function redirect(location: string, status = 307): Behaviour {
  return answer(status, { Location: location });
}

/** Waits before it behaves as `then`. */
export function slow(milliseconds: number, then: Behaviour = answer(200)): Behaviour {
  return (response, received) => {
    const timer = setTimeout(() => then(response, received), milliseconds);
    response.on('close', () => clearTimeout(timer));
  };
}

export const hang: Behaviour = () => {};

/** Closes the connection without a response. */
export const cutBeforeHead: Behaviour = (response) => { response.socket?.destroy(); };

/** Closes the connection inside the status line. */
export const cutInHead: Behaviour = ({ socket }) => {
  socket?.write('HTTP/1.1 20', () => socket.destroy());
};

/** Closes the connection after the head and the first byte of the body. */
export function cutAfterHead(status = 200): Behaviour {
  return (response) => {
    response.writeHead(status, { 'Content-Length': 1000 });
    response.write('x', () => response.destroy());
  };
}

/** Sends the head and the first byte of the body, then nothing. */
export function hangAfterHead(status = 200): Behaviour {
  return (response) => { response.writeHead(status, { 'Content-Length': 1000 }).write('x'); };
}

/** Sends a body without an end, as fast as it is read. */
export function endless(status = 200): Behaviour {
  return (response) => {
    const chunk = Buffer.alloc(4096, 'x');
    const pour = (): void => {
      while (!response.destroyed && response.write(chunk));
    };
    response.on('drain', pour).writeHead(status);
    pour();
  };
}

export class HttpSink {
  readonly requests: Received[] = [];
  readonly #server: Server;
  readonly #scheme: string;
  readonly #open = new Set<Socket>();
  readonly #numbers = new WeakMap<Socket, number>();
  readonly #next: Behaviour[] = [];
  #connections = 0;
  #behaviour: Behaviour;

  constructor({ tls, behaviour = answer(200) }: SinkOptions) {
    const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
      void this.#receive(request, response);
    };
    this.#behaviour = behaviour;
    this.#scheme = tls === undefined ? 'http' : 'https';
    this.#server = tls === undefined ? createServer(onRequest) : createTlsServer(tls, onRequest);
    // The sink closes no idle connection, so that tests can tell who closed one.
    this.#server.keepAliveTimeout = 0;
    this.#server.on('connection', (socket: Socket) => {
      this.#open.add(socket);
      socket.on('close', () => this.#open.delete(socket));
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** The URL without a path. */
  get url(): string {
    return `${this.#scheme}://127.0.0.1:${this.port}`;
  }

  get openConnections(): number {
    return this.#open.size;
  }

  /** Starts to listen on loopback. */
  async listen(port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject).listen(port, '127.0.0.1', resolve);
    });
  }

  /** Sets the behaviour for later requests. */
  behave(behaviour: Behaviour): void {
    this.#behaviour = behaviour;
  }

  /** Sets the behaviour of the next requests, one each. */
  behaveNext(...behaviours: readonly Behaviour[]): void {
    this.#next.push(...behaviours);
  }

  /** Waits, with a bound, until `count` requests have arrived. */
  async waitFor(count: number): Promise<readonly Received[]> {
    await eventually(`${count} requests`, () => this.requests.length >= count);
    return this.requests;
  }

  /** Waits, with a bound, until at most `count` connections are open. */
  async waitForConnections(count: number): Promise<void> {
    await eventually(`${count} connections`, () => this.#open.size <= count);
  }

  /** Closes all connections, also in the middle of a request. */
  cutAll(): void {
    for (const socket of this.#open) socket.destroy();
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => { this.#server.close(resolve); });
    this.cutAll();
    await closed;
  }

  async #receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => {});
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      return;
    }
    const received: Received = {
      method: request.method ?? '',
      path: request.url ?? '',
      headers: request.headers,
      body: Buffer.concat(chunks).toString(),
      connection: this.#numberOf(request.socket),
    };
    this.requests.push(received);
    (this.#next.shift() ?? this.#behaviour)(response, received);
  }

  #numberOf(socket: Socket): number {
    const number = this.#numbers.get(socket) ?? (this.#connections += 1);
    this.#numbers.set(socket, number);
    return number;
  }
}

export async function startHttpSink(options: SinkOptions = {}): Promise<HttpSink> {
  const sink = new HttpSink(options);
  await sink.listen(options.port ?? 0);
  return sink;
}
