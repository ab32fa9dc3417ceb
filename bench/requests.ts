/**
 * The requests of a load, prepared as bytes. Each has its own user, idempotency key and client IP
 * unless the workload says otherwise. Names are random: numbered ones would all fall on the last
 * page of an index.
 */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { Lab } from './lab.ts';
import type { Target } from './target.ts';

/** A code that otpd has sent, with its user. */
export type KnownCode = Readonly<{ userId: string; code: string }>;

/** Users and client IPs that have used up their limits. */
export type AtLimit = Readonly<{ users: readonly string[]; clientIps: readonly string[] }>;

/** The purpose of every request. */
const PURPOSE = 'login';

/** Counted over the whole process, so that no measurement reuses a client IP of another. */
let clientIpCount = 0;

/** A user_id that no request has used. */
export function newUser(): string {
  return randomBytes(8).toString('hex');
}

/** An IPv4 address that no request has used: from 1.0.0.0 on, at most 2 billion. */
export function newClientIp(): string {
  clientIpCount += 1;
  const [a, b, c] = [clientIpCount >>> 24, clientIpCount >>> 16, clientIpCount >>> 8];
  return `${1 + (a % 120)}.${b & 255}.${c & 255}.${clientIpCount & 255}`;
}

/** POST /otp/request as bytes. */
export function otpRequest(userId: string, clientIp: string): string {
  const key = randomBytes(16).toString('hex');
  const body = `{"user_id":"${userId}","purpose":"${PURPOSE}"}`;
  return `POST /otp/request HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n` +
    `Idempotency-Key: ${key}\r\nX-Forwarded-For: ${clientIp}\r\n` +
    `Content-Length: ${body.length}\r\n\r\n${body}`;
}

/** POST /otp/verify as bytes; with an Idempotency-Key if one is given. */
export function verifyRequest({ userId, code }: KnownCode, key: string | null = null): string {
  const body = `{"user_id":"${userId}","purpose":"${PURPOSE}","code":"${code}"}`;
  const line = key === null ? '' : `Idempotency-Key: ${key}\r\n`;
  return `POST /otp/verify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n` +
    `${line}X-Forwarded-For: ${newClientIp()}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

/** A POST /otp/request of a new user at a new client IP. */
export function freshRequest(): string {
  return otpRequest(newUser(), newClientIp());
}

/** Enough fresh requests for a time, at a rate above what any service reaches. */
export function freshRequests(seconds: number, ratePerSecond: number): string[] {
  return Array.from({ length: ratePerSecond * seconds }, freshRequest);
}

/** A request over a limit: that of a user or, for every second index, that of a client IP. */
export function refusedRequest({ users, clientIps }: AtLimit, index: number): string {
  const turn = index >>> 1;
  return index % 2 === 0
    ? otpRequest(users[turn % users.length] ?? '', newClientIp())
    : otpRequest(newUser(), clientIps[turn % clientIps.length] ?? '');
}

/**
 * A mix in which 12 of 20 requests ask for a code, 7 verify one and 1 is refused.
 *
 * @param codes one for each verification; their number decides the length of the result
 */
export function mixedRequests(codes: readonly KnownCode[], atLimit: AtLimit): string[] {
  const requests: string[] = [];
  codes.forEach((code, index) => {
    requests.push(verifyRequest(code));
    const turn = index % 7;
    // 12 requests for 7 verifications: one for each of the first two, two for each other.
    for (let count = turn < 2 ? 1 : 2; count > 0; count -= 1) requests.push(freshRequest());
    if (turn === 6) requests.push(refusedRequest(atLimit, (index - turn) / 7));
  });
  return requests;
}

/** Writes requests in the format that the load generators read. */
export function writeRequests(file: string, requests: readonly string[]): void {
  writeFileSync(file, `${requests.join('\0')}\0`, 'latin1');
}

const SETUP_CONNECTIONS = 64;
/** At least this many requests per second are answered during setup, on any machine. */
const SETUP_RATE_MIN = 200;
const SETUP_MIN_SECONDS = 10;

async function sendAll(lab: Lab, target: Target, requests: readonly string[]): Promise<void> {
  const seconds = SETUP_MIN_SECONDS + Math.ceil(requests.length / SETUP_RATE_MIN);
  await lab.prepare({ target, connections: SETUP_CONNECTIONS, seconds, requests });
}

/**
 * Requests codes of new users and returns those that the console channel printed. A second otpd on
 * the same database sends them: printing to the benchmark costs time, which the measured process
 * does not spend. Commits are not flushed meanwhile.
 */
export async function knownCodes(lab: Lab, target: Target, count: number): Promise<KnownCode[]> {
  const codes: KnownCode[] = [];
  await lab.setDurable(false);
  const twin = await target.startTwin(codeReader((code) => codes.push(code)));
  try {
    await sendAll(lab, twin, Array.from({ length: count }, freshRequest));
  } finally {
    await twin.stop();
    await lab.setDurable(true);
  }
  return codes;
}

/** Reads the messages that otpd prints: `message to USER: 123456 is your code …`. */
export function codeReader(onCode: (code: KnownCode) => void): (text: string) => void {
  let rest = '';
  return (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const [, userId, code] = /^message to (\S+): (\d+) is your code/.exec(line) ?? [];
      if (userId !== undefined && code !== undefined) onCode({ userId, code });
    }
  };
}

/** Enough users and client IPs that neither their rows nor their locks are a hot spot. */
const USERS_AT_LIMIT = 100;
const CLIENT_IPS_AT_LIMIT = 50;
/** The default policy. */
const USER_LIMIT = 3;
const CLIENT_IP_LIMIT = 8;

/** Shorter than the window of 900 s, after which a user has points again. */
const AT_LIMIT_MS = 600_000;

const known = new Map<Target, { atLimit: AtLimit; untilMs: number }>();

/** Users and client IPs at their limits in one service; replaced before their window ends. */
export async function atLimitIn(lab: Lab, target: Target): Promise<AtLimit> {
  const found = known.get(target);
  if (found !== undefined && Date.now() < found.untilMs) return found.atLimit;
  const atLimit: AtLimit = {
    users: Array.from({ length: USERS_AT_LIMIT }, newUser),
    clientIps: Array.from({ length: CLIENT_IPS_AT_LIMIT }, newClientIp),
  };
  const untilMs = Date.now() + AT_LIMIT_MS;
  await sendAll(lab, target, [
    ...repeat(atLimit.users, USER_LIMIT, (user) => otpRequest(user, newClientIp())),
    ...repeat(atLimit.clientIps, CLIENT_IP_LIMIT, (clientIp) => otpRequest(newUser(), clientIp)),
  ]);
  known.set(target, { atLimit, untilMs });
  return atLimit;
}

function repeat<T>(items: readonly T[], times: number, make: (item: T) => string): string[] {
  return Array.from({ length: times }, () => items.map(make)).flat();
}
