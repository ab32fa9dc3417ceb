/** What stood in the way of looking at the database, and what to do about it. */
import type { DatabaseSettings } from '../../../db/connection.ts';
import { StatementError, Unavailable } from '../../../db/errors.ts';

/** One finding, which is one line. */
export type Finding = Readonly<{
  level: 'ok' | 'warn' | 'fault';
  /** What was looked at. */
  check: string;
  found: string;
  /** What to do about it; null when there is nothing to do. */
  remedy: string | null;
}>;

/** All is well. */
export function ok(check: string, found: string): Finding {
  return { level: 'ok', check, found, remedy: null };
}

/** It works, and may not be what was meant. */
export function warn(check: string, found: string, remedy: string): Finding {
  return { level: 'warn', check, found, remedy };
}

/** otpd does not start, does not answer, or breaks a promise. */
export function fault(check: string, found: string, remedy: string): Finding {
  return { level: 'fault', check, found, remedy };
}

/** What to do about an error of the server (MySQL error reference). */
const REMEDIES: ReadonlyMap<number, string> = new Map([
  [1040, 'raise max_connections'],
  [1044, 'grant the account SELECT, INSERT, UPDATE and DELETE on the database DB_NAME'],
  [1045, 'check DB_USER and DB_PASSWORD, and from which hosts the account may connect'],
  [1049, 'run: npm run migrate'],
  [1130, 'create the account for this host'],
  [1142, 'grant the account SELECT, INSERT, UPDATE and DELETE on the database DB_NAME'],
]);

/**
 * Judges a failure. Names the error, and never a value.
 *
 * @throws what is no failure of the database
 */
export function toConnectionFinding(error: unknown, settings: DatabaseSettings): Finding {
  const cause = error instanceof Unavailable ? error.cause ?? error : error;
  if (!(error instanceof Unavailable) && !(error instanceof StatementError)) throw error;
  const errno = cause instanceof StatementError ? cause.errno : 0;
  return fault('connection', (error as Error).message, REMEDIES.get(errno) ?? remedyFor(settings));
}

function remedyFor({ socketPath, tlsCaFile }: DatabaseSettings): string {
  const place = socketPath === null ? 'at DB_HOST and DB_PORT' : 'at the socket DB_SOCKET';
  const tls = tlsCaFile === null ? '' : ', with a certificate of DB_TLS_CA for the name DB_HOST';
  return `see that MySQL 8.0.19 or later answers ${place}${tls}`;
}
