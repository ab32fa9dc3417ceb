/**
 * A hostile client, told by its arguments: port, kind of attack, a file of requests. It does
 * little, and that little all the time; it prints READY when all its sockets are in use, and at
 * its end one line of JSON with what it has done.
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';

/** As issue 5 has it; each socket says one byte a second. */
const SLOW_SOCKETS = 2000;
const DRIP_MS = 1000;

/**
 * Each sends so many requests at once, and does it again when it was closed. They are refused:
 * others would take a share of the capacity as good requests do, and not as hostile ones.
 */
const PIPELINES = 64;
const PIPELINE_REQUESTS = 200;

/** Each sends a body of 200 MiB, as fast as it is taken, and begins again when it is closed. */
const BODIES = 8;
const BODY_BYTES = 200 * 1024 * 1024;
const BLOCK = Buffer.alloc(65_536, 0x20);

/** An attacker who came back at once would mostly measure how fast it can connect. */
const RETURN_MS = 250;

const [port = '', kind = '', file = ''] = process.argv.slice(2);
const requests = readFileSync(file, 'latin1').split('\0').slice(0, -1);

type Attack = Readonly<{ sockets: number; begin: (socket: Socket) => void }>;

let position = 0;
let opened = 0;
let sentBytes = 0;
let answers = 0;

function drip(socket: Socket): void {
  const bytes = requests[0]!;
  let at = 0;
  const timer = setInterval(() => socket.write(bytes[at++ % bytes.length]!), DRIP_MS);
  socket.on('close', () => clearInterval(timer));
}

function pipeline(socket: Socket): void {
  const start = position;
  position = (position + PIPELINE_REQUESTS) % (requests.length - PIPELINE_REQUESTS);
  const text = requests.slice(start, start + PIPELINE_REQUESTS).join('');
  sentBytes += text.length;
  socket.write(text, 'latin1');
}

function sendBody(socket: Socket): void {
  const pump = (): void => {
    do sentBytes += BLOCK.length; while (socket.write(BLOCK));
  };
  socket.on('drain', pump);
  socket.write(requests[0]!.replace(/Content-Length: \d+[^]*$/,
    `Content-Length: ${BODY_BYTES}\r\n\r\n`), pump);
}

const ATTACKS: ReadonlyMap<string, Attack> = new Map([
  ['slow', { sockets: SLOW_SOCKETS, begin: drip }],
  ['pipelines', { sockets: PIPELINES, begin: pipeline }],
  ['bodies', { sockets: BODIES, begin: sendBody }],
]);

function open(begin: Attack['begin'], onConnect: () => void): void {
  const socket = connect(Number(port), '127.0.0.1');
  opened += 1;
  socket.on('connect', () => {
    onConnect();
    begin(socket);
  });
  socket.setEncoding('latin1').on('data', (text: string) => {
    answers += text.split('HTTP/1.1 ').length - 1;
  });
  socket.on('error', () => {});
  socket.on('close', () => { setTimeout(() => open(begin, () => {}), RETURN_MS); });
}

const { sockets, begin } = ATTACKS.get(kind)!;
let connected = 0;
for (let at = 0; at < sockets; at += 1) {
  open(begin, () => {
    connected += 1;
    if (connected === sockets) process.stdout.write('READY\n');
  });
}
process.on('SIGTERM', () => {
  process.stdout.write(`DONE ${JSON.stringify({ opened, sentBytes, answers })}\n`,
    () => process.exit(0));
});
