/**
 * An imitation of otpd in memory, for the tests of the abuse suite: sound by default, or with one
 * flaw that the suite must find.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

export type Flaw =
  | 'limit race' | 'key race' | 'key of another' | 'guess race' | 'request while locked'
  | 'double redeem' | 'key oracle' | 'wrong wait' | 'forwarded for' | 'real ip' | 'any origin'
  | 'open preflight' | 'no key needed' | 'public metrics' | 'sequential ids' | 'reflection'
  | 'attempts renewed' | 'spellings' | 'no network limit' | 'free guesses' | 'last member wins'
  | 'any type of field' | 'any media type' | 'stack' | 'code in answer' | 'cached'
  | 'lenient parser' | 'endless header';

export const API_KEY = 'otpd_stand-in';

const USER_QUOTA = 3;
const ADDRESS_QUOTA = 8;
const NETWORK_QUOTA = 128;
const RECIPIENT_QUOTA = 5;
const WRONG_CODES_QUOTA = 60;
const ATTEMPTS = 3;
const CODE_DIGITS = 6;
const BODY_BYTES_MAX = 4096;

/** Every attack runs in this process, which may be late with the headers of a sound request. */
const HEADERS_TIMEOUT_MS = 5000;

/**
 * How often a racing request lets the event loop turn between reading and writing, for the others
 * to come: one long wait could end before the first of them is read.
 */
const RACE_TURNS = 20;
const TURN_MS = 2;

type Pair = { code: string; wrong: number; isLocked: boolean; isUsed: boolean };
type Output = Readonly<{ status: number; body: object; headers?: Record<string, string> }>;
type Fields = Readonly<Record<string, unknown>>;
type Caller = Readonly<{ clientIp: string; key: string | undefined }>;

export class StandIn {
  readonly #flaw: Flaw | null;
  readonly #server: Server;
  readonly #counts = new Map<string, number>();
  readonly #pairs = new Map<string, Pair>();
  readonly #requestKeys = new Map<string, Readonly<{ user: string; output: Output }>>();
  readonly #verifyKeys = new Map<string, string>();
  #ids = 0;

  constructor(flaw: Flaw | null) {
    this.#flaw = flaw;
    this.#server = createServer({
      insecureHTTPParser: flaw === 'lenient parser',
      headersTimeout: flaw === 'endless header' ? 0 : HEADERS_TIMEOUT_MS,
      requestTimeout: flaw === 'endless header' ? 0 : HEADERS_TIMEOUT_MS,
      connectionsCheckingInterval: 100,
    }, (incoming, outgoing) => {
      void this.#answer(incoming).catch((error: Error) => ({
        status: 500,
        body: { error: this.#flaw === 'stack' ? error.stack : 'internal' },
      })).then(({ status, body, headers = {} }: Output) => {
        const text = JSON.stringify(body);
        outgoing.writeHead(status, {
          'Content-Type': 'application/json',
          'Content-Length': Buffer.byteLength(text),
          'Cache-Control': this.#flaw === 'cached' ? 'public' : 'no-store',
          'X-Content-Type-Options': 'nosniff',
          ...(this.#flaw === 'reflection'
            ? { 'X-Request-Id': String(incoming.headers['x-request-id']) } : {}),
          ...headers,
        }).end(text);
      });
    });
  }

  async start(): Promise<URL> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return new URL(`http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`);
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  codeOf(user: string): string {
    return this.#pairs.get(user)?.code ?? '';
  }

  async #answer(incoming: IncomingMessage): Promise<Output> {
    const { method = '', url = '', headers } = incoming;
    if (this.#flaw === 'stack' && url.length > 20) throw new Error('a bug');
    if (headers.origin !== undefined && this.#flaw !== 'any origin') {
      return this.#answerOrigin(method, headers.origin);
    }
    const isOtp = url === '/otp/request' || url === '/otp/verify';
    if (url === '/metrics' && this.#flaw === 'public metrics') return { status: 200, body: {} };
    if (!isOtp && !/^\/otp\/[0-9a-f]{32}$/.test(url)) {
      return { status: 404, body: { error: 'not_found' } };
    }
    if (headers.authorization !== `Bearer ${API_KEY}` && this.#flaw !== 'no key needed') {
      return { status: 401, body: { error: 'unauthorized' } };
    }
    if (!isOtp) return { status: 404, body: { error: 'otp_not_found' } };
    if (headers['content-type'] !== 'application/json' && this.#flaw !== 'any media type') {
      return { status: 415, body: { error: 'unsupported_media_type' } };
    }
    if (headers['content-encoding'] !== undefined) return { status: 415, body: {} };
    const fields = this.#parse(await readBody(incoming));
    if (fields === null) return { status: 400, body: { error: 'invalid_request' } };
    const key = headers['idempotency-key'] as string | undefined;
    const caller = { clientIp: this.#clientIpOf(incoming), key };
    if (url === '/otp/verify') return this.#verify(fields, caller);
    const isKey = key !== undefined && /^[!#-~]{1,255}$/.test(key);
    return isKey ? this.#request(fields, caller, key) : { status: 400, body: {} };
  }

  #answerOrigin(method: string, origin: string): Output {
    if (this.#flaw === 'open preflight' && method === 'OPTIONS') {
      return { status: 204, body: {}, headers: { 'Access-Control-Allow-Origin': origin } };
    }
    return { status: 403, body: { error: 'origin_not_allowed' } };
  }

  #clientIpOf({ headers }: IncomingMessage): string {
    const forged = this.#flaw === 'forwarded for' ? headers['x-forwarded-for']
      : this.#flaw === 'real ip' ? headers['x-real-ip'] : undefined;
    return String(forged ?? headers['x-client-ip'] ?? '127.0.0.1');
  }

  /** Returns null for a malformed body. */
  #parse(bytes: Buffer): Fields | null {
    const text = bytes.toString('utf8');
    if (bytes.length > BODY_BYTES_MAX || !Buffer.from(text).equals(bytes)) return null;
    let fields: Fields;
    try {
      fields = JSON.parse(text) as Fields;
    } catch {
      return null;
    }
    if (typeof fields !== 'object' || fields === null || Array.isArray(fields)) return null;
    const names = Object.keys(fields);
    const isRepeated = [...text.matchAll(/"[^"]*" ?:/g)].length > names.length;
    if (isRepeated && this.#flaw !== 'last member wins') return null;
    const isKnown = names.every((name) => ['user_id', 'purpose', 'code'].includes(name));
    const isText = this.#flaw === 'any type of field'
      || ['user_id', 'purpose'].every((name) => isIdentity(fields[name]));
    return isKnown && isText ? fields : null;
  }

  #take(name: string): number {
    const count = this.#count(name) + 1;
    this.#counts.set(name, count);
    return count;
  }

  #count(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  #limitsOf(user: string, clientIp: string): [header: string, count: string, quota: number][] {
    const limits: [string, string, number][] = [
      ['user', `user ${user}`, USER_QUOTA], ['ip', `ip ${clientIp}`, ADDRESS_QUOTA],
    ];
    const network = clientIp.split(':').slice(0, 3).join(':');
    if (this.#flaw !== 'no network limit') limits.push(['net48', `net ${network}`, NETWORK_QUOTA]);
    const recipient = user.toLowerCase().replace(/\+[^@]*/, '');
    if (recipient !== user && this.#flaw !== 'spellings') {
      limits.push(['recipient', `recipient ${recipient}`, RECIPIENT_QUOTA]);
    }
    return limits;
  }

  async #request(fields: Fields, { clientIp }: Caller, key: string): Promise<Output> {
    const user = String(fields.user_id);
    const stored = this.#requestKeys.get(key);
    if (stored !== undefined) return this.#replay(stored, user);
    if (this.#flaw === 'key race') await waitForOthers();
    const pair = this.#pairs.get(user);
    if (pair?.isLocked && this.#flaw !== 'request while locked') {
      return refusal('too_many_attempts', 'retry_after_seconds', 600);
    }
    const limits = this.#limitsOf(user, clientIp);
    const isRefused = limits.some(([, count, quota]) => this.#count(count) >= quota);
    if (this.#flaw === 'limit race') await waitForOthers();
    if (!isRefused) for (const [, count] of limits) this.#take(count);
    const headers = {
      'RateLimit-Policy': limits.map(([name, , quota]) => `"${name}";q=${quota};w=900`).join(', '),
      'RateLimit': limits.map(([name, count, quota]) =>
        `"${name}";r=${Math.max(0, quota - this.#count(count))};t=900`).join(', '),
    };
    if (isRefused) {
      const refused = refusal('rate_limit_exceeded', 'remaining_cooldown_seconds', 900);
      const wait = this.#flaw === 'wrong wait' ? '1' : refused.headers!['Retry-After']!;
      return { ...refused, headers: { ...headers, 'Retry-After': wait } };
    }
    const output = { status: 201, body: this.#issue(user), headers };
    this.#requestKeys.set(key, { user, output });
    return output;
  }

  #issue(user: string): object {
    const code = newCode();
    const wrong = this.#flaw === 'attempts renewed' ? 0 : this.#pairs.get(user)?.wrong ?? 0;
    this.#pairs.set(user, { code, wrong, isLocked: false, isUsed: false });
    this.#ids += 1;
    const id = this.#flaw === 'sequential ids' ? String(this.#ids).padStart(32, '0')
      : randomBytes(16).toString('hex');
    return { otp_id: id, ttl: 300, remaining_requests: USER_QUOTA - this.#count(`user ${user}`) };
  }

  #replay({ user, output }: Readonly<{ user: string; output: Output }>, asking: string): Output {
    if (user !== asking && this.#flaw !== 'key of another') {
      return { status: 422, body: { error: 'idempotency_key_reused' } };
    }
    return { ...output, headers: { ...output.headers, 'Idempotent-Replayed': 'true' } };
  }

  async #verify(fields: Fields, { clientIp, key }: Caller): Promise<Output> {
    const { user_id: user, code } = fields as Record<string, string>;
    if (!/^\d{6}$/.test(code ?? '') || typeof code !== 'string') return { status: 400, body: {} };
    const won = key === undefined ? undefined : this.#verifyKeys.get(key);
    if (won === code) return { status: 200, body: { success: true } };
    if (won !== undefined) {
      if (this.#flaw !== 'key oracle') this.#verifyKeys.delete(key!);
      return { status: 422, body: { error: 'idempotency_key_reused' } };
    }
    if (this.#count(`wrong ${clientIp}`) >= WRONG_CODES_QUOTA && this.#flaw !== 'free guesses') {
      return refusal('rate_limit_exceeded', 'remaining_cooldown_seconds', 3600);
    }
    const pair = this.#pairs.get(user!);
    if (pair === undefined) return { status: 404, body: { error: 'otp_not_found' } };
    if (pair.isLocked) return refusal('too_many_attempts', 'retry_after_seconds', 600);
    if (pair.isUsed) return { status: 410, body: { error: 'code_used' } };
    const { wrong } = pair;
    if (this.#flaw === 'guess race') await waitForOthers();
    if (code === pair.code) return this.#redeem(pair, code, key);
    return this.#countWrong(pair, wrong, clientIp);
  }

  async #redeem(pair: Pair, code: string, key: string | undefined): Promise<Output> {
    if (this.#flaw === 'double redeem') await waitForOthers();
    pair.isUsed = true;
    if (key !== undefined) this.#verifyKeys.set(key, code);
    return { status: 200, body: { success: true } };
  }

  #countWrong(pair: Pair, before: number, clientIp: string): Output {
    this.#take(`wrong ${clientIp}`);
    pair.wrong = before + 1;
    pair.isLocked = pair.wrong >= ATTEMPTS;
    if (pair.isLocked) return refusal('too_many_attempts', 'retry_after_seconds', 600);
    const shown = this.#flaw === 'code in answer' ? { expected: pair.code } : {};
    return {
      status: 401,
      body: { error: 'invalid_code', attempts_remaining: ATTEMPTS - pair.wrong, ...shown },
    };
  }
}

async function waitForOthers(): Promise<void> {
  for (let turn = 0; turn < RACE_TURNS; turn += 1) await delay(TURN_MS);
}

function newCode(): string {
  return String(randomInt(10 ** CODE_DIGITS)).padStart(CODE_DIGITS, '0');
}

function refusal(error: string, member: string, seconds: number): Output {
  const headers = { 'Retry-After': String(seconds) };
  return { status: 429, body: { error, [member]: seconds }, headers };
}

function isIdentity(value: unknown): boolean {
  return typeof value === 'string' && value.isWellFormed() && !/[\p{Cc}]/u.test(value)
    && value.length > 0 && [...value].length <= 255;
}

async function readBody(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
