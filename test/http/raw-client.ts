/** A client that sends raw bytes and reads one response at a time. */
import type { Socket } from 'node:net';
import { recordAnswer } from '../harness/answer-recorder.ts';
import { connectTo } from './transport.ts';

/** One response as received. */
export type RawResponse = Readonly<{
  status: number;
  /** Status line and header lines, without the empty line. */
  head: string;
  headers: ReadonlyMap<string, string>;
  body: string;
}>;

export type RawClient = Readonly<{
  socket: Socket;
  send: (bytes: string | Buffer) => void;
  /** Resolves with the next response; rejects when the connection or the time ends first. */
  readResponse: (options?: { noBody?: boolean }) => Promise<RawResponse>;
  /** Resolves with the unread bytes when the server has closed its side. */
  ended: () => Promise<string>;
  /** Resolves with the error code, or '', when the connection is closed. */
  gone: () => Promise<string>;
  /** Closes the sending side. */
  end: () => void;
  destroy: () => void;
  /** Resets the connection. */
  reset: () => void;
}>;

/** Longer than any response of a test takes unless the test sets a bound of its own. */
const RESPONSE_TIMEOUT_MS = 60_000;

const HEAD = /^(?:\r\n)*([A-Z]+) (\S+) HTTP\/\d\.\d\r\n([\s\S]*?)(?:\r\n\r\n|$)/;
const LAST_CHUNK = '0\r\n\r\n';

type SentRequest = Readonly<{ method: string; target: string; body: string }>;

/** The bytes that a connection has sent: one request for each answer, in their order. */
class SentBytes {
  #bytes = '';
  /** How many bytes of an answered request are still to be sent. */
  #rest = 0;

  add(bytes: string | Buffer): void {
    const text = Buffer.from(bytes as string).toString('latin1');
    this.#bytes += text.slice(this.#rest);
    this.#rest = Math.max(0, this.#rest - text.length);
  }

  /** Takes the next request; null where the bytes are none. */
  take(): SentRequest | null {
    const [head = '', method, target = '', lines = ''] = HEAD.exec(this.#bytes) ?? [];
    if (method === undefined) return null;
    const isChunked = /^transfer-encoding: *chunked/im.test(lines);
    const length = Number(/^content-length: *(\d+)/im.exec(lines)?.[1] ?? 0);
    const lastChunk = this.#bytes.indexOf(LAST_CHUNK, head.length);
    const end = !isChunked ? head.length + length
      : lastChunk < 0 ? this.#bytes.length : lastChunk + LAST_CHUNK.length;
    const body = isChunked ? '' : this.#bytes.slice(head.length, end);
    this.#rest = Math.max(0, end - this.#bytes.length);
    this.#bytes = this.#bytes.slice(end);
    return { method, target, body };
  }
}

/**
 * Connects to a server on this machine.
 *
 * @param boundMs the longest wait for each response
 * @param isOtpd false for another server, whose answers nobody describes
 */
export async function openClient(
  port: number,
  boundMs = RESPONSE_TIMEOUT_MS,
  isOtpd = true,
): Promise<RawClient> {
  const { socket, connected, reset } = connectTo(port);
  let text = '';
  const sent = new SentBytes();
  let over = false;
  let closed = false;
  let error = '';
  let wake = (): void => {};
  const on = (event: string, change: (chunk: Buffer) => void): void => {
    socket.on(event, (chunk: Buffer) => { change(chunk); wake(); });
  };
  on('data', (chunk) => { text += chunk.toString('latin1'); });
  on('end', () => { over = true; });
  on('close', () => { over = true; closed = true; });
  socket.on('error', (cause: NodeJS.ErrnoException) => { error = cause.code ?? ''; });
  // A server at its limit closes a connection before the TLS handshake.
  await new Promise((resolve) => { socket.once(connected, resolve).once('close', resolve); });

  /** Waits until `take` returns a value, at most `boundMs`. */
  const until = async <T>(what: string, take: () => T | null): Promise<T> => {
    let late = false;
    const timer = setTimeout(() => { late = true; wake(); }, boundMs);
    try {
      for (;;) {
        const value = take();
        if (value !== null) return value;
        if (late) throw new Error(`no ${what} in time; got ${JSON.stringify(text)}`);
        if (over && what === 'response') throw new Error(`closed; got ${JSON.stringify(text)}`);
        await new Promise<void>((resolve) => { wake = resolve; });
      }
    } finally {
      clearTimeout(timer);
    }
  };

  const takeResponse = (noBody: boolean): RawResponse | null => {
    const end = text.indexOf('\r\n\r\n');
    if (end === -1) return null;
    const head = text.slice(0, end);
    const headers = new Map<string, string>();
    for (const line of head.split('\r\n').slice(1)) {
      const colon = line.indexOf(': ');
      headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 2));
    }
    const length = noBody ? 0 : Number(headers.get('content-length') ?? 0);
    if (text.length < end + 4 + length) return null;
    const body = text.slice(end + 4, end + 4 + length);
    text = text.slice(end + 4 + length);
    const response = { status: Number(head.slice(9, 12)), head, headers, body };
    if (isOtpd && response.status >= 200) record(response);
    return response;
  };

  /** The requests of a connection are answered in order. */
  const record = ({ status, headers, body }: RawResponse): void => {
    const request = sent.take();
    const toText = (bytes: string): string => Buffer.from(bytes, 'latin1').toString('utf8');
    recordAnswer({ request, status, headers: [...headers].flat(), body: toText(body) },
      toText(request?.body ?? ''));
  };

  return {
    socket,
    send: (bytes) => {
      sent.add(bytes);
      socket.write(bytes);
    },
    readResponse: (options = {}) => until('response', () => takeResponse(options.noBody ?? false)),
    ended: () => until('end', () => (over ? text : null)),
    gone: () => until('close', () => (closed ? error : null)),
    end: () => { socket.end(); },
    destroy: () => { socket.destroy(); },
    reset,
  };
}

/** Sends bytes on a new connection and resolves with the first response. */
export async function exchange(
  port: number,
  bytes: string | Buffer,
  options: { noBody?: boolean } = {},
): Promise<RawResponse> {
  const client = await openClient(port);
  try {
    client.send(bytes);
    return await client.readResponse(options);
  } finally {
    client.destroy();
  }
}

/** A POST with the usual headers; `headers` replaces lines or, with null, removes them. */
export function post(
  path: string,
  body: string,
  headers: Readonly<Record<string, string | null>> = {},
): string {
  const lines = new Map<string, string>([
    ['Host', 'otpd'],
    ['Content-Type', 'application/json'],
    ['Idempotency-Key', 'k1'],
    ['Content-Length', String(Buffer.byteLength(body))],
  ]);
  for (const [name, value] of Object.entries(headers)) {
    if (value === null) lines.delete(name);
    else lines.set(name, value);
  }
  const head = [...lines].map(([name, value]) => `${name}: ${value}\r\n`).join('');
  return `POST ${path} HTTP/1.1\r\n${head}\r\n${body}`;
}
