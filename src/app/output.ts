/** Output for the person who runs otpd: lines, the banner of `serve`, errors, reports, findings. */
import { ConfigError } from './config/env-reader.ts';
import { MYSQL_REMEDY } from '../db/checks/mysql-version.ts';
import { StatementError, Unavailable } from '../db/errors.ts';
import { SchemaError } from '../db/migrate.ts';
import { WorkerError } from './process/worker-pool.ts';

export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Prints to standard error, where the line does not mix with the output of a command. */
export function printError(line: string): void {
  process.stderr.write(`${line}\n`);
}

export function isOutputTerminal(): boolean {
  return process.stdout.isTTY === true;
}

export function printAddress(what: string, host: string, port: number): void {
  print(`${what} ${toUrl('http', host, port)}`);
}

function toUrl(scheme: 'http' | 'https', host: string, port: number): string {
  return `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

type Banner = Readonly<{
  host: string;
  port: number;
  /** True when the console is the only channel. */
  printsCodes: boolean;
  /** Null: no API key is required. */
  apiKeys: object | null;
  /** Null when the listener speaks plain HTTP. */
  certificate: object | null;
}>;

/** Prints the URL, and a curl command to try when the codes appear on this terminal. */
export function printBanner({ host, port, printsCodes, apiKeys, certificate }: Banner): void {
  const address = toUrl(certificate === null ? 'http' : 'https', host, port);
  print(`otpd answers on ${address}`);
  if (!printsCodes) return;
  const key = apiKeys === null ? '' : '    -H "Authorization: Bearer $KEY" \\\n';
  print(`
Request a code. It is printed here, because the console is the only channel:

  curl -i ${address}/otp/request -H 'Content-Type: application/json' \\
${key}    -H "Idempotency-Key: $(node -p 'crypto.randomUUID()')" \\
    -d '{"user_id":"U1","purpose":"login"}'
`);
}

export function reportError(error: unknown): void {
  process.stderr.write(`otpd: ${messageOf(error)}\n`);
}

/** The message and the remedy of an operational error; the stack of a bug. */
export function messageOf(error: unknown): string {
  if (!isOperationalError(error)) return (error as Error).stack ?? String(error);
  const { message, remedy = null } = error as Error & { remedy?: string | null };
  return remedy === null ? message : `${message}; ${remedy}`;
}

/** True for errors that are not bugs: the message and the remedy say what to do. */
export function isOperationalError(error: unknown): error is Error {
  if (error instanceof StatementError) return error.errorClass !== 'bug';
  return [ConfigError, SchemaError, Unavailable, WorkerError].some(
    (kind) => error instanceof kind,
  ) || typeof (error as NodeJS.ErrnoException).code === 'string';
}

/** The result of a command, as text lines and as the members of one JSON object. */
export type Report = Readonly<{
  /** False makes the exit code 1 instead of 0. */
  isDone: boolean;
  lines: readonly string[];
  data: Readonly<Record<string, unknown>>;
  /** Advice on standard error, in either format. */
  note?: string;
}>;

/** A wrong command line; the message names the arguments that the command takes. */
export class UsageError extends Error {
  override name = 'UsageError';
}

/** A finding of doctor: what was checked, what was found and what to do about it. */
export type Finding = Readonly<{
  level: 'ok' | 'warn' | 'fault';
  check: string;
  found: string;
  /** Null exactly when the level is `ok`. */
  remedy: string | null;
}>;

export function ok(check: string, found: string): Finding {
  return { level: 'ok', check, found, remedy: null };
}

/** Works, but is probably not intended. */
export function warn(check: string, found: string, remedy: string): Finding {
  return { level: 'warn', check, found, remedy };
}

/** otpd does not start, does not answer, or cannot keep a guarantee of docs/api.md. */
export function fault(check: string, found: string, remedy: string): Finding {
  return { level: 'fault', check, found, remedy };
}

/**
 * Turns a database error into a finding that names the error and no value.
 * @throws the error itself when it does not come from the database
 */
export function toConnectionFinding(error: unknown): Finding {
  if (!(error instanceof Unavailable) && !(error instanceof StatementError)) throw error;
  const check = error.remedy === MYSQL_REMEDY ? 'version' : 'connection';
  return fault(check, error.message, error.remedy ?? 'check the error log of MySQL');
}
