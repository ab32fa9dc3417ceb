/**
 * The try-out page of `npm start`: a listener on loopback that serves the page, passes its requests
 * on to otpd, so that otpd has to allow no origin, and shows it what the console channel prints.
 */
import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request as requestPlain } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { request as requestSecure } from 'node:https';
import type { AddressInfo } from 'node:net';

/** The variables by which otpd gets the address of the page and the file of the clock. */
export const PAGE_VARIABLE = 'OTPD_TRY_OUT_PAGE';
export const CLOCK_VARIABLE = 'OTPD_TRY_OUT_CLOCK';

/** What the hook in otpd reports. */
export type Report =
  | Readonly<{ kind: 'answers'; url: string }>
  | Readonly<{ kind: 'message'; to: string; text: string }>;

export type TryOut = Readonly<{
  url: string;
  onReport: (report: Report) => void;
  close: () => void;
}>;

type Options = Readonly<{
  /** The preferred port, so that an open page finds the next start; another one if it is taken. */
  port: number;
  /** Holds the seconds by which the clock is moved. It exists while the listener does. */
  clockFile: string;
}>;

const HOST = '127.0.0.1';
const SHIFT_MAX_SECONDS = 86_400;
const BODY_MAX_BYTES = 1024;
/** A page that is loaded again shows as many messages. */
const MESSAGES_MAX = 50;
const FORWARDED = /^(?:POST \/otp\/(?:request|verify)|(?:GET|DELETE) \/otp\/[0-9a-f]{32})$/;

/** What describes this connection, or the page as its caller. */
const NOT_FORWARDED = /^(?:host|connection|keep-alive|origin|referer|cookie|sec-.*)$/;

/** Opens the listener; the clock begins unmoved. */
export async function openTryOut({ port, clockFile }: Options): Promise<TryOut> {
  const page = new Page(clockFile);
  const server = createServer((req, res) => page.answer(req, res));
  const listen = (wanted: number) => new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(wanted, HOST, () => { server.off('error', reject); resolve(); });
  });
  page.setShift(0);
  await listen(port).catch(() => listen(0));
  const close = (): void => {
    rmSync(clockFile, { force: true });
    server.close();
    server.closeAllConnections();
  };
  const { port: own } = server.address() as AddressInfo;
  return { url: `http://${HOST}:${own}/`, onReport: (report) => page.onReport(report), close };
}

class Page {
  readonly #clockFile: string;
  readonly #html = readFileSync(new URL('./page.html', import.meta.url), 'utf8');
  readonly #listeners = new Set<ServerResponse>();
  readonly #messages: object[] = [];
  #shiftSeconds = 0;
  #otpd: string | null = null;

  constructor(clockFile: string) {
    this.#clockFile = clockFile;
  }

  onReport(report: Report): void {
    if (report.kind === 'answers') {
      this.#otpd = report.url;
      return;
    }
    const message = { ...report, at: this.#now() };
    if (this.#messages.push(message) > MESSAGES_MAX) this.#messages.shift();
    this.#send(message);
  }

  setShift(seconds: number): void {
    writeFileSync(this.#clockFile, String(seconds), { mode: 0o600 });
    this.#shiftSeconds = seconds;
    this.#send(this.#clock());
  }

  /** Refuses other names (DNS rebinding) and other pages before anything else. */
  answer(req: IncomingMessage, res: ServerResponse): void {
    const { host = '', origin, 'sec-fetch-site': site = 'none' } = req.headers;
    const path = (req.url ?? '').replace(/\?.*/, '');
    const isPage = path === '/' && req.method === 'GET';
    const { port } = req.socket.address() as AddressInfo;
    if (host !== `${HOST}:${port}` && host !== `localhost:${port}`) {
      respond(res, 421, { error: 'misdirected_request', message: `use ${HOST}:${port}` });
    } else if ((origin !== undefined && origin !== `http://${host}`)
      || (!isPage && site !== 'same-origin' && site !== 'none')) {
      respond(res, 403, { error: 'origin_not_allowed', message: 'use the page of this address' });
    } else if (isPage) this.#servePage(res);
    else if (path === '/events' && req.method === 'GET') this.#listen(res);
    else if (path === '/clock' && req.method === 'POST') void this.#moveClock(req, res);
    else if (FORWARDED.test(`${req.method} ${path}`)) this.#forward(req, res, path);
    else respond(res, 404, { error: 'not_found', message: `the page is http://${host}/` });
  }

  #servePage(res: ServerResponse): void {
    const hashes = (tag: string): string => hashOf(this.#html, tag);
    res.writeHead(200, {
      ...COMMON,
      'Content-Type': 'text/html; charset=utf-8',
      'Content-Security-Policy': `default-src 'none'; script-src ${hashes('script')};`
        + ` style-src ${hashes('style')}; connect-src 'self'; img-src data:; base-uri 'none';`
        + " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script';"
        + " trusted-types 'none'",
    });
    res.end(this.#html);
  }

  #listen(res: ServerResponse): void {
    res.writeHead(200, { ...COMMON, 'Content-Type': 'text/event-stream' });
    for (const event of [this.#clock(), ...this.#messages]) res.write(toEvent(event));
    this.#listeners.add(res);
    res.on('close', () => this.#listeners.delete(res));
  }

  async #moveClock(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const seconds = req.headers['content-type'] === 'application/json'
      ? parseSeconds(await readText(req)) : null;
    if (seconds === null) {
      const message = `send JSON: {"seconds": 0 to ${SHIFT_MAX_SECONDS}}`;
      respond(res, 400, { error: 'invalid_request', message });
      return;
    }
    this.setShift(seconds);
    respond(res, 200, this.#clock());
  }

  #forward(req: IncomingMessage, res: ServerResponse, path: string): void {
    if (this.#otpd === null) {
      respond(res, 502, { error: 'not_started', message: 'otpd is starting; try again' });
      return;
    }
    const send = this.#otpd.startsWith('https:') ? requestSecure : requestPlain;
    const sent = send(new URL(path, this.#otpd), {
      method: req.method, headers: forwardedHeaders(req.headers), rejectUnauthorized: false,
    }, (answer) => {
      res.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(res);
    });
    sent.on('error', () => {
      if (res.headersSent) res.destroy();
      else respond(res, 502, { error: 'no_answer', message: 'otpd does not run; look there' });
    });
    req.pipe(sent);
  }

  #now(): number {
    return Date.now() + this.#shiftSeconds * 1000;
  }

  #clock(): object {
    return { kind: 'clock', seconds: this.#shiftSeconds };
  }

  #send(event: object): void {
    for (const listener of this.#listeners) listener.write(toEvent(event));
  }
}

const COMMON = Object.freeze({
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cross-Origin-Opener-Policy': 'same-origin',
});

function respond(res: ServerResponse, status: number, body: object): void {
  res.writeHead(status, { ...COMMON, 'Content-Type': 'application/json' });
  res.end(JSON.stringify(body));
}

function toEvent(event: object): string {
  return `data: ${JSON.stringify(event)}\n\n`;
}

/** The source expression of the one element with this tag (CSP Level 3, 2.3.1). */
function hashOf(html: string, tag: string): string {
  const [, text = ''] = new RegExp(`<${tag}>([^]*?)</${tag}>`).exec(html) ?? [];
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

function forwardedHeaders(headers: IncomingHttpHeaders): Record<string, string | string[]> {
  const kept = Object.entries(headers).filter(([name, value]) =>
    value !== undefined && !NOT_FORWARDED.test(name));
  return Object.fromEntries(kept) as Record<string, string | string[]>;
}

/** '' for a body that is too long. */
async function readText(req: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of req) {
    text += String(chunk);
    if (text.length > BODY_MAX_BYTES) return '';
  }
  return text;
}

function parseSeconds(text: string): number | null {
  try {
    const { seconds } = JSON.parse(text) as { seconds: unknown };
    const isValid = typeof seconds === 'number' && Number.isInteger(seconds)
      && seconds >= 0 && seconds <= SHIFT_MAX_SECONDS;
    return isValid ? seconds : null;
  } catch {
    return null;
  }
}
