/** Checks of HTTP framing on raw connections: a refusal, then the end, and nothing smuggled in. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { expect } from './check.ts';
import type { Check } from './check.ts';
import type { Target } from './target.ts';

/** Longer than the time that otpd gives a header section. */
const CLOSE_WITHIN_MS = 30_000;

const DRIP_MS = 500;

const SMUGGLED = '/smuggled';

export const FRAMING: readonly Check[] = [
  { name: 'request smuggling', run: checkSmuggling },
  { name: 'malformed HTTP', run: checkMalformed },
  { name: 'slow header sections', run: checkSlow },
];

/** What a raw connection got until it ended. */
type Raw = Readonly<{ statuses: number[]; text: string; isClosed: boolean }>;

/** Each is followed by a request that must be answered by nobody. */
function smugglingShapes(host: string): readonly string[] {
  const tail = `GET ${SMUGGLED} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
  const post = (headers: string, body: string): string =>
    `POST /otp/verify HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\n`
    + `${headers}\r\n${body}${tail}`;
  return [
    post('Content-Length: 5\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'),
    post('Transfer-Encoding: chunked\r\nContent-Length: 5\r\n', '0\r\n\r\n'),
    post('Content-Length: 2\r\nContent-Length: 40\r\n', '{}'),
    post('Content-Length: 2, 40\r\n', '{}'),
    post('Content-Length: +2\r\n', '{}'),
    post('Content-Length: -2\r\n', '{}'),
    post('Content-Length: 0x2\r\n', '{}'),
    post('Content-Length: 2 2\r\n', '{}'),
    post('Content-Length: 18446744073709551618\r\n', '{}'),
    post('Transfer-Encoding : chunked\r\n', '0\r\n\r\n'),
    post('Transfer-Encoding: xchunked\r\n', '0\r\n\r\n'),
    post('Transfer-Encoding: chunked, identity\r\n', '0\r\n\r\n'),
    post('Transfer-Encoding: identity\r\nContent-Length: 2\r\n', '{}'),
    post('Transfer-Encoding: chunked\r\n', '10000000000000002\r\n{}\r\n0\r\n\r\n'),
    post('Transfer-Encoding: chunked\r\n', '2;a=\n\r\n{}\r\n0\r\n\r\n'),
    post('Transfer-Encoding: chunked\r\n', '-2\r\n{}\r\n0\r\n\r\n'),
  ];
}

function malformedShapes(host: string): readonly string[] {
  return [
    `GET / HTTP/1.1\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: ${host}\r\nHost: other.example\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: ${host}\r\nX: a\0b\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: ${host}\r\nX: a\rb\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: ${host}\r\nno colon\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: ${host}\r\nX: a\r\n folded\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: ${host}\r\n X: a\r\n\r\n`,
    `GET /a b HTTP/1.1\r\nHost: ${host}\r\n\r\n`,
    `GET / HTTP/9.9\r\nHost: ${host}\r\n\r\n`,
    `GET / \r\n\r\n`,
    `G\u00cbT / HTTP/1.1\r\nHost: ${host}\r\n\r\n`,
    `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: ${host}\r\nX: ${'a'.repeat(128 * 1024)}\r\n\r\n`,
    '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'.padEnd(517, '\0'),
  ];
}

async function checkSmuggling(target: Target): Promise<string> {
  const shapes = smugglingShapes(target.options.url.host);
  const all = await Promise.all(shapes.map((shape) => sendRaw(target, [shape])));
  all.forEach(({ statuses, isClosed }, index) => {
    const shape = JSON.stringify(shapes[index]!.split('\r\n').slice(3, 5).join(' | '));
    expect(statuses.length <= 1, `a second request was answered after ${shape}`);
    expect(statuses.every(isRefusal), `${shape} is answered ${statuses[0]}`);
    expect(isClosed, `the connection stays open after ${shape}`);
  });
  return `${shapes.length} shapes refused, each connection closed`;
}

async function checkMalformed(target: Target): Promise<string> {
  const shapes = malformedShapes(target.options.url.host);
  const all = await Promise.all(shapes.map((shape) => sendRaw(target, [shape])));
  all.forEach(({ statuses, isClosed }, index) => {
    const shape = JSON.stringify(shapes[index]!.slice(0, 60));
    expect(statuses.every(isRefusal), `${shape} is answered ${statuses[0]}`);
    expect(isClosed, `the connection stays open after ${shape}`);
  });
  return `${shapes.length} shapes refused, each connection closed`;
}

function isRefusal(status: number): boolean {
  return (status >= 400 && status < 500) || status === 501 || status === 505;
}

async function checkSlow(target: Target): Promise<string> {
  const drips = ['GET / HTTP/1.1\r\n', `Host: ${target.options.url.host}\r\n`];
  while (drips.length * DRIP_MS < CLOSE_WITHIN_MS) drips.push(`X-${drips.length}: a\r\n`);
  const startedAt = performance.now();
  const { isClosed } = await sendRaw(target, drips);
  expect(isClosed, `a header section may take more than ${CLOSE_WITHIN_MS / 1000} s`);
  return `closed after ${Math.round((performance.now() - startedAt) / 1000)} s`;
}

/** Sends the parts at intervals and reads until the connection ends or CLOSE_WITHIN_MS pass. */
function sendRaw({ options: { url } }: Target, parts: readonly string[]): Promise<Raw> {
  return new Promise((resolve) => {
    const socket = open(url);
    const chunks: Buffer[] = [];
    let sent = 0;
    const sendNext = (): void => {
      if (sent < parts.length && socket.writable) socket.write(parts[sent]!, 'latin1');
      sent += 1;
      if (sent < parts.length) drip = setTimeout(sendNext, DRIP_MS);
    };
    let drip = setTimeout(sendNext, 0);
    const finish = (isClosed: boolean): void => {
      clearTimeout(drip);
      clearTimeout(late);
      socket.destroy();
      const text = Buffer.concat(chunks).toString('latin1');
      const statuses = [...text.matchAll(/HTTP\/1\.[01] (\d{3})/g)].map(([, code]) => Number(code));
      resolve({ statuses, text, isClosed });
    };
    const late = setTimeout(() => finish(false), CLOSE_WITHIN_MS);
    socket.on('data', (chunk: Buffer) => { chunks.push(chunk); });
    socket.on('error', () => finish(true));
    socket.on('end', () => finish(true));
    socket.on('close', () => finish(true));
  });
}

function open({ protocol, hostname, port }: URL): Socket {
  const host = hostname.replace(/^\[|\]$/g, '');
  const isTls = protocol === 'https:';
  const options = { host, port: Number(port || (isTls ? '443' : '80')) };
  return isTls ? connectTls({ ...options, servername: host }) : connect(options);
}
