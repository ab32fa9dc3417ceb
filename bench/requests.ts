/**
 * The requests of a load, made beforehand: every one has a user, a key and an address of its own
 * unless the workload says otherwise. Names are random, as those of real users are: numbered ones
 * would all fall on the last page of an index.
 */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';

/** A code that was issued beforehand, with its user. */
export type KnownCode = Readonly<{ userId: string; code: string }>;

/** Who is at the limit, for requests that are to be refused. */
export type AtLimit = Readonly<{ users: readonly string[]; addresses: readonly string[] }>;

/** The purpose of every request. */
export const PURPOSE = 'login';

/** Each measurement takes a part of the address space that no other has had. */
let addressCount = 0;

/** A user that no request has had. */
export function newUser(): string {
  return randomBytes(8).toString('hex');
}

/** An IPv4 address that no request has had: 1.0.0.0 and on, at most 2 billion. */
export function newAddress(): string {
  addressCount += 1;
  const [a, b, c] = [addressCount >>> 24, addressCount >>> 16, addressCount >>> 8];
  return `${1 + (a % 120)}.${b & 255}.${c & 255}.${addressCount & 255}`;
}

/** POST /otp/request as bytes on the wire. */
export function issueRequest(userId: string, address: string): string {
  const key = randomBytes(16).toString('hex');
  const body = `{"user_id":"${userId}","purpose":"${PURPOSE}"}`;
  return `POST /otp/request HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n` +
    `Idempotency-Key: ${key}\r\nX-Forwarded-For: ${address}\r\n` +
    `Content-Length: ${body.length}\r\n\r\n${body}`;
}

/** POST /otp/verify as bytes on the wire; with an Idempotency-Key when one is given. */
export function verifyRequest({ userId, code }: KnownCode, key: string | null = null): string {
  const body = `{"user_id":"${userId}","purpose":"${PURPOSE}","code":"${code}"}`;
  const line = key === null ? '' : `Idempotency-Key: ${key}\r\n`;
  return `POST /otp/verify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n` +
    `${line}X-Forwarded-For: ${newAddress()}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

/** An issue request of a new user at a new address. */
export function freshRequest(): string {
  return issueRequest(newUser(), newAddress());
}

/** As many of them as may be sent in a time at a rate that is not reached. */
export function freshRequests(seconds: number, ratePerSecond: number): string[] {
  return Array.from({ length: ratePerSecond * seconds }, freshRequest);
}

/** A request to be refused: by turns for its user and for its address. */
export function refusedRequest({ users, addresses }: AtLimit, index: number): string {
  const turn = index >>> 1;
  return index % 2 === 0
    ? issueRequest(users[turn % users.length] ?? '', newAddress())
    : issueRequest(newUser(), addresses[turn % addresses.length] ?? '');
}

/**
 * The mixed day: of every 20 requests 12 issue, 7 verify and 1 is refused.
 *
 * @param codes its length ends the list
 */
export function mixedRequests(codes: readonly KnownCode[], atLimit: AtLimit): string[] {
  const requests: string[] = [];
  codes.forEach((code, index) => {
    requests.push(verifyRequest(code));
    const turn = index % 7;
    // 12 issues over 7 verifies: two each, but one for the first two of seven.
    for (let count = turn < 2 ? 1 : 2; count > 0; count -= 1) requests.push(freshRequest());
    if (turn === 6) requests.push(refusedRequest(atLimit, (index - turn) / 7));
  });
  return requests;
}

/** Writes requests as the generators read them. */
export function writeRequests(file: string, requests: readonly string[]): void {
  writeFileSync(file, `${requests.join('\0')}\0`, 'latin1');
}
