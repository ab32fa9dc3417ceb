/**
 * Loaded into otpd on the development MySQL. It tells tools/dev.ts where otpd answers and which
 * messages the console channel prints, and moves NOW(6) by the seconds that the try-out page has
 * set. Nothing of it is in dist/, and no other database gets it.
 */
import cluster from 'node:cluster';
import { readFileSync } from 'node:fs';
import mysql from 'mysql2';
import { CLOCK_VARIABLE, PAGE_VARIABLE } from './listener.ts';
import type { Report } from './listener.ts';

const clockFile = process.env[CLOCK_VARIABLE];
const page = process.env[PAGE_VARIABLE];

const BANNER = /^otpd answers on (\S+)$/;
const MESSAGE = /^message to ([\w.@+-]+|"(?:[^"\\]|\\.)*"): (.*)$/;

/** A worker reports to the first process of otpd, which passes the report on. */
function report(sent: Report): void {
  if (process.connected) process.send?.(sent, undefined, undefined, () => {});
}

function watchOutput(): void {
  const write = process.stdout.write.bind(process.stdout);
  process.stdout.write = ((chunk: unknown, ...rest: []) => {
    const isTaken = write(chunk as string, ...rest);
    if (typeof chunk === 'string') for (const line of chunk.split('\n')) look(line, write);
    return isTaken;
  }) as typeof process.stdout.write;
}

function look(line: string, write: (text: string) => unknown): void {
  const [, url] = BANNER.exec(line) ?? [];
  if (url !== undefined) {
    report({ kind: 'answers', url });
    write(`a page to try it out: ${page}\n`);
  }
  const [, to, text] = MESSAGE.exec(line) ?? [];
  if (to === undefined || text === undefined) return;
  report({ kind: 'message', to: to.startsWith('"') ? JSON.parse(to) as string : to, text });
}

/** Whole seconds; 0 while the clock is not moved. Commands on the same MySQL have the same time. */
function shiftSeconds(path: string): number {
  try {
    return Number(readFileSync(path, 'utf8'));
  } catch {
    return 0;
  }
}

/** The form in which src/db/connection.ts calls the driver. */
type Query = (text: string, done: () => void) => unknown;

/**
 * Moves NOW(6) in the text of every statement, and not the time of the session: that would stand
 * still, and would be read before the locks are held. No value contains `NOW(6)`, because
 * bindValues writes a text with parentheses as hexadecimal digits.
 */
function moveClock(path: string): void {
  const { createConnection } = mysql;
  const moved = (text: string): string => {
    const seconds = shiftSeconds(path);
    return seconds === 0 ? text
      : text.replaceAll('NOW(6)', `(NOW(6) + INTERVAL ${seconds} SECOND)`);
  };
  mysql.createConnection = ((options: string) => {
    const connection = createConnection(options);
    const query: Query = connection.query.bind(connection);
    const send: Query = (text, done) => query(moved(text), done);
    return Object.assign(connection, { query: send });
  }) as typeof mysql.createConnection;
}

if (clockFile !== undefined) moveClock(clockFile);
if (page !== undefined) {
  watchOutput();
  if (cluster.isPrimary) {
    cluster.on('message', (_worker, sent: Partial<Report> | null) => {
      if (sent?.kind === 'message') report(sent as Report);
    });
  }
}
