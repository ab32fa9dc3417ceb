/**
 * A load generator for machines without wrk: sends the requests of a file over keep-alive
 * connections and prints the same line of JSON as wrk.lua. Arguments: port, connections, seconds,
 * file.
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';

/** Responses that arrive later than this after the end count as errors. */
const DRAIN_TIMEOUT_MS = 10_000;

const [port = '', connections = '', seconds = '', file = ''] = process.argv.slice(2);
const requests = readFileSync(file);
const latenciesUs: number[] = [];
const statuses: number[] = Array.from({ length: 6 }, () => 0);
let position = 0;
let socketErrors = 0;
let openCount = 0;
let exhausted = false;
let began = process.hrtime.bigint();
let ended = began;

function elapsedUs(from: bigint): number {
  return Number(process.hrtime.bigint() - from) / 1e3;
}

/** The next request; null when the time is over or no request is left. */
function nextRequest(): Buffer | null {
  if (elapsedUs(began) >= Number(seconds) * 1e6) return null;
  const end = requests.indexOf(0, position);
  exhausted = end < 0;
  if (exhausted) return null;
  const request = requests.subarray(position, end);
  position = end + 1;
  return request;
}

/** Length of the first complete response in the text, or 0. */
function responseLength(text: string): number {
  const head = text.indexOf('\r\n\r\n');
  if (head < 0) return 0;
  const length = /\r\ncontent-length: *(\d+)/i.exec(text);
  const total = head + 4 + Number(length?.[1] ?? 0);
  return text.length < total ? 0 : total;
}

function drive(socket: Socket): void {
  let text = '';
  let sentAt = 0n;
  const send = (): void => {
    const request = nextRequest();
    if (request === null) {
      socket.end();
      return;
    }
    sentAt = process.hrtime.bigint();
    socket.write(request);
  };
  socket.setEncoding('latin1').setNoDelay(true);
  socket.on('connect', send);
  socket.on('data', (part: string) => {
    text += part;
    const length = responseLength(text);
    if (length === 0) return;
    const kind = Number(text[9]);
    statuses[kind] = (statuses[kind] ?? 0) + 1;
    latenciesUs.push(elapsedUs(sentAt));
    ended = process.hrtime.bigint();
    text = text.slice(length);
    send();
  });
  socket.on('error', () => { socketErrors += 1; });
  socket.on('close', () => {
    openCount -= 1;
    if (openCount === 0) report();
  });
}

function report(): void {
  latenciesUs.sort((a, b) => a - b);
  const at = (share: number): number =>
    Math.round(latenciesUs[Math.floor(latenciesUs.length * share)] ?? 0);
  process.stdout.write(`LOAD ${JSON.stringify({
    requests: latenciesUs.length,
    seconds: Number(ended - began) / 1e9,
    p50Us: at(0.5),
    p99Us: at(0.99),
    exhausted,
    answers2xx: statuses[2],
    answers4xx: statuses[4],
    answers5xx: statuses[5],
    socketErrors,
  })}\n`, () => process.exit(0));
}

began = process.hrtime.bigint();
openCount = Number(connections);
for (let index = 0; index < Number(connections); index += 1) {
  drive(connect(Number(port), '127.0.0.1'));
}
setTimeout(() => {
  socketErrors += openCount;
  report();
}, Number(seconds) * 1000 + DRAIN_TIMEOUT_MS).unref();
