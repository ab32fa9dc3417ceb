/** What otpd says to the person who started it, and how a command tells what stands in its way. */
import { ConfigError } from './config/env-reader.ts';
import { Unavailable } from '../db/errors.ts';
import { SchemaError } from '../db/migrate.ts';
import { WorkerError } from './process/worker-pool.ts';

/** Prints a line for a person. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Prints a line for a person beside the output of a command: on standard error. */
export function printError(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Whether a person reads what is printed, and no program. */
export function isOutputTerminal(): boolean {
  return process.stdout.isTTY === true;
}

/** Says where something is. */
export function printAddress(what: string, host: string, port: number): void {
  print(`${what} ${toUrl('http', host, port)}`);
}

function toUrl(scheme: 'http' | 'https', host: string, port: number): string {
  return `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

type Banner = Readonly<{
  host: string;
  port: number;
  /** Whether all codes are printed here. */
  printsCodes: boolean;
  /** Who must send a key; null: nobody. */
  apiKeys: object | null;
  /** Null: it speaks plain HTTP. */
  certificate: object | null;
}>;

/** Says where otpd answers, and, when all codes are printed here, with a line to try it by. */
export function printBanner({ host, port, printsCodes, apiKeys, certificate }: Banner): void {
  const address = toUrl(certificate === null ? 'http' : 'https', host, port);
  print(`otpd answers on ${address}`);
  if (!printsCodes) return;
  const key = apiKeys === null ? '' : '    -H "Authorization: Bearer $KEY" \\\n';
  print(`
Ask for a code; it is printed here, because no channel but the console is set up:

  curl -i ${address}/otp/request -H 'Content-Type: application/json' \\
${key}    -H "Idempotency-Key: $(date +%s%N)" -d '{"user_id":"U1","purpose":"login"}'
`);
}

/** Mistakes of a person, and a database that is away, need a message; a bug needs its stack. */
export function reportError(error: unknown): void {
  process.stderr.write(`otpd: ${messageOf(error)}\n`);
}

/** What an error says to a person: of a bug, where it is. */
export function messageOf(error: unknown): string {
  return isOperationalError(error) ? error.message : (error as Error).stack ?? String(error);
}

/** Whether the message of an error says to a person what to do. */
export function isOperationalError(error: unknown): error is Error {
  return [ConfigError, SchemaError, Unavailable, WorkerError].some(
    (kind) => error instanceof kind,
  ) || typeof (error as NodeJS.ErrnoException).code === 'string';
}

/** The end of a command. */
export type Report = Readonly<{
  /** False: what was asked for was not done, or something is at fault. */
  isDone: boolean;
  lines: readonly string[];
  data: Readonly<Record<string, unknown>>;
  /** What a person should know beside it, whoever reads the rest. */
  note?: string;
}>;

/** Arguments that a command cannot take; the message says which ones it takes. */
export class UsageError extends Error {
  override name = 'UsageError';
}
