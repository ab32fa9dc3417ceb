/** What otpd says: to the person who started it, and to the log. */
import { ConfigError } from './config-reader.ts';
import { WorkerError } from './crew.ts';
import { LocalServerError } from './db/local/local-server-error.ts';
import { SchemaError } from './db/migrate.ts';
import { Unavailable } from './db/unavailable.ts';
import type { DeliveryNote } from './otp/delivery/note.ts';
import type { ReloadNote } from './reload.ts';
import type { RollNote } from './roll.ts';

/** Prints a line for a person. */
export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Prints a line for a person beside the output of a command: on standard error. */
export function remark(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Whether a person reads what is printed, and no program. */
export function isReadByPerson(): boolean {
  return process.stdout.isTTY === true;
}

/** Says where something is. */
export function sayWhere(what: string, host: string, port: number): void {
  say(`${what} ${addressOf('http', host, port)}`);
}

function addressOf(scheme: 'http' | 'https', host: string, port: number): string {
  return `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

type Greeting = Readonly<{
  host: string;
  port: number;
  /** Whether all codes are printed here. */
  isPrinting: boolean;
  /** Who must send a key; null: nobody. */
  callers: object | null;
  /** Null: it speaks plain HTTP. */
  certificate: object | null;
}>;

/** Says where otpd answers, and, when all codes are printed here, with a line to try it by. */
export function greet({ host, port, isPrinting, callers, certificate }: Greeting): void {
  const address = addressOf(certificate === null ? 'http' : 'https', host, port);
  say(`otpd answers on ${address}`);
  if (!isPrinting) return;
  const key = callers === null ? '' : '    -H "Authorization: Bearer $KEY" \\\n';
  say(`
Ask for a code; it is printed here, because no channel but the console is set up:

  curl -i ${address}/otp/request -H 'Content-Type: application/json' \\
${key}    -H "Idempotency-Key: $(date +%s%N)" -d '{"user_id":"U1","purpose":"login"}'
`);
}

/** One line on standard error; of a failed statement its name and code, never its values. */
export function logFault(fault: { requestId: string; route: string; error: unknown }): void {
  const { requestId, route, error } = fault;
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
  const level = error instanceof Unavailable ? 'warn' : 'error';
  const line = { level, event: 'request_failed', requestId, route, name, message };
  process.stderr.write(`${JSON.stringify(level === 'warn' ? line : { ...line, stack })}\n`);
}

const LEVELS: Readonly<Record<DeliveryNote['event'], string>> = {
  delivery_retry: 'info',
  delivery_refused: 'warn',
  delivery_failed: 'warn',
  delivery_unreadable: 'error',
  delivery_taken_over: 'info',
  channel_paused: 'warn',
  channel_resumed: 'info',
  delivery_fault: 'error',
};

/** One line on standard error about the delivery of messages. */
export function logDelivery({ error, ...note }: DeliveryNote): void {
  const line = { level: LEVELS[note.event], ...note };
  const stack = error instanceof Error ? error.stack : error;
  process.stderr.write(`${JSON.stringify(error === undefined ? line : { ...line, stack })}\n`);
}

/** One line on standard error about what a signal led to; of a fault, what is wrong. */
export function logSignal(note: ReloadNote | RollNote): void {
  if (!('error' in note)) {
    process.stderr.write(`${JSON.stringify({ level: 'info', ...note })}\n`);
    return;
  }
  const { error, ...rest } = note;
  const line = { level: 'error', ...rest, message: messageOf(error) };
  process.stderr.write(`${JSON.stringify(line)}\n`);
}

/** Mistakes of a person, and a database that is away, need a message; a bug needs its stack. */
export function report(error: unknown): void {
  process.stderr.write(`otpd: ${messageOf(error)}\n`);
}

function messageOf(error: unknown): string {
  return isExpected(error) ? error.message : (error as Error).stack ?? String(error);
}

/** Whether the message of an error says to a person what to do. */
export function isExpected(error: unknown): error is Error {
  return [ConfigError, LocalServerError, SchemaError, Unavailable, WorkerError].some(
    (kind) => error instanceof kind,
  ) || typeof (error as NodeJS.ErrnoException).code === 'string';
}
