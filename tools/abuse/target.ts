/**
 * The installation under test: requests with a bounded number of messages, users and client IPs of
 * its own, and a record of every answer.
 */
import { randomInt, randomUUID } from 'node:crypto';
import * as http from 'node:http';
import * as https from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import { Finding, NotRun } from './check.ts';

export type Options = Readonly<{
  url: URL;
  apiKey: string | null;
  purpose: string;
  /** `{n}` becomes a number of six digits; it looks like a code unless a letter touches it. */
  user: string;
  /** Returns the newest code of a user, with white space around it; null: none can be read. */
  readCode: ((user: string) => Promise<string>) | null;
  codeDigits: number;
  /** Requests that may lead to a message. */
  messagesMax: number;
}>;

export type Answer = Readonly<{
  status: number;
  headers: http.IncomingHttpHeaders;
  text: string;
  body: Readonly<Record<string, unknown>>;
}>;

type Call = Readonly<{
  method?: string;
  path: string;
  headers?: http.OutgoingHttpHeaders;
  body?: string | Buffer;
}>;

type RequestCall = Readonly<{
  user: string;
  /** The client IP, which only an API client may name. */
  clientIp?: string;
  key?: string;
  headers?: http.OutgoingHttpHeaders;
}>;

type VerifyCall = RequestCall & Readonly<{ code: string }>;

const ANSWER_TIMEOUT_MS = 20_000;
const CODE_POLL_MS = 250;
const CODE_WAIT_MS = 15_000;
const SOCKETS_MAX = 64;

export const NEEDS_CODES = 'needs --code-command';

export class Target {
  readonly options: Options;
  readonly answers: Answer[] = [];
  /** Codes that were sent or read, which no answer may contain. */
  readonly codes = new Set<string>();
  readonly #agent: http.Agent;
  /** A /48 of the documentation range for each run, so that runs share no limit. */
  readonly #network = `2001:db8:${randomInt(0x10000).toString(16)}`;
  #clientIps = 0;
  #messages = 0;

  constructor(options: Options) {
    this.options = options;
    const settings = { keepAlive: true, maxSockets: SOCKETS_MAX };
    this.#agent = options.url.protocol === 'https:'
      ? new https.Agent(settings) : new http.Agent(settings);
  }

  get messages(): number {
    return this.#messages;
  }

  newUser(): string {
    return this.options.user.replaceAll('{n}', String(randomInt(100_000, 1_000_000)));
  }

  /** An address in a /64 of its own. */
  newClientIp(): string {
    this.#clientIps += 1;
    return `${this.#network}:${this.#clientIps.toString(16)}::1`;
  }

  /** A code that is wrong unless the newest one happens to be the same. */
  randomCode(): string {
    return String(randomInt(10 ** this.options.codeDigits)).padStart(this.options.codeDigits, '0');
  }

  /** POST /otp/request. Throws NotRun when the budget of messages is used up. */
  async request({ user, clientIp, key = randomUUID(), headers }: RequestCall): Promise<Answer> {
    if (this.#messages >= this.options.messagesMax) {
      throw new NotRun(`--messages ${this.options.messagesMax} is used up`);
    }
    this.#messages += 1;
    const answer = await this.call({
      method: 'POST',
      path: '/otp/request',
      headers: { ...this.#headersFor(clientIp), 'Idempotency-Key': key, ...headers },
      body: JSON.stringify({ user_id: user, purpose: this.options.purpose }),
    });
    const isNew = answer.status === 201 && answer.headers['idempotent-replayed'] === undefined;
    if (!isNew) this.#messages -= 1;
    return answer;
  }

  /** POST /otp/verify. */
  verify({ user, code, clientIp, key, headers }: VerifyCall): Promise<Answer> {
    this.codes.add(code);
    return this.call({
      method: 'POST',
      path: '/otp/verify',
      headers: {
        ...this.#headersFor(clientIp),
        ...(key === undefined ? {} : { 'Idempotency-Key': key }),
        ...headers,
      },
      body: JSON.stringify({ user_id: user, purpose: this.options.purpose, code }),
    });
  }

  #headersFor(clientIp: string | undefined): http.OutgoingHttpHeaders {
    const isNamed = clientIp !== undefined && this.options.apiKey !== null;
    return { 'Content-Type': 'application/json', ...(isNamed ? { 'X-Client-IP': clientIp } : {}) };
  }

  /** Sends a request with the API key, unless `headers` sets `Authorization` itself. */
  call({ method = 'GET', path, headers = {}, body }: Call): Promise<Answer> {
    const { url, apiKey } = this.options;
    const authorization = apiKey === null ? {} : { Authorization: `Bearer ${apiKey}` };
    const length = body === undefined ? {} : { 'Content-Length': Buffer.byteLength(body) };
    const all = { ...authorization, ...length, ...headers };
    const sent = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== ''));
    const send = url.protocol === 'https:' ? https.request : http.request;
    return new Promise((resolve, reject) => {
      const outgoing = send(new URL(path, url), {
        method, headers: sent, agent: this.#agent, timeout: ANSWER_TIMEOUT_MS,
      }, (incoming) => {
        readAnswer(incoming).then((answer) => {
          this.answers.push(answer);
          resolve(answer);
        }, reject);
      });
      outgoing.on('timeout', () => outgoing.destroy(new Error('no answer within 20 s')));
      outgoing.on('error', reject);
      outgoing.end(body);
    });
  }

  /** Requests an OTP that must be issued. Throws NotRun when a limit of this caller refuses. */
  async issue(user: string, clientIp: string): Promise<string> {
    const answer = await this.request({ user, clientIp });
    if (answer.status === 201) return String(answer.body.otp_id);
    if (answer.status === 429) {
      throw new NotRun(`no code: refused by ${refusingLimits(answer).join(', ') || 'a limit'}`);
    }
    throw new Finding(`a request was answered ${answer.status} ${answer.text}`);
  }

  /** Waits, with a bound, for the code of a user. Throws NotRun when codes cannot be read. */
  async readCode(user: string): Promise<string> {
    const { readCode, codeDigits } = this.options;
    if (readCode === null) throw new NotRun(NEEDS_CODES);
    for (let waited = 0; waited < CODE_WAIT_MS; waited += CODE_POLL_MS) {
      const code = (await readCode(user)).trim();
      if (code.length === codeDigits && /^\d+$/.test(code)) {
        this.codes.add(code);
        return code;
      }
      await delay(CODE_POLL_MS);
    }
    throw new NotRun(`--code-command printed no code of ${codeDigits} digits for ${user}`);
  }

  close(): void {
    this.#agent.destroy();
  }
}

async function readAnswer(incoming: http.IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString('utf8');
  return {
    status: incoming.statusCode ?? 0, headers: incoming.headers, text, body: parseBody(text),
  };
}

function parseBody(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value as Record<string, unknown> : {};
  } catch {
    return {};
  }
}

/** The names of the limits with nothing left, as `RateLimit` gives them. */
export function refusingLimits({ headers }: Answer): string[] {
  return [...String(headers.ratelimit ?? '').matchAll(/"([\w-]+)";r=0\b/g)]
    .map(([, name]) => name!);
}

/** What is left of a limit, or its quota; null when the header does not name the limit. */
export function limitNumber(
  { headers }: Answer,
  header: 'ratelimit' | 'ratelimit-policy',
  name: string,
): number | null {
  const found = new RegExp(`"${name}";[rq]=(\\d+)`).exec(String(headers[header] ?? ''));
  return found === null ? null : Number(found[1]);
}
