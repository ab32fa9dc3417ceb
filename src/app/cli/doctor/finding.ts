/** A finding of doctor: what was checked, what was found and what to do about it. */
import type { DatabaseSettings } from '../../../db/connection.ts';
import { StatementError, Unavailable } from '../../../db/errors.ts';

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

/** Remedies by MySQL error number (MySQL Server Error Message Reference). */
const REMEDIES: ReadonlyMap<number, string> = new Map([
  [1040, 'raise max_connections'],
  [1044, 'grant the account SELECT, INSERT, UPDATE and DELETE on the database DB_NAME'],
  [1045, 'check DB_USER and DB_PASSWORD, and from which hosts the account may connect'],
  [1049, 'run: npm run migrate'],
  [1130, 'create the account for this host'],
  [1142, 'grant the account SELECT, INSERT, UPDATE and DELETE on the database DB_NAME'],
]);

/**
 * Turns a database error into a finding that names the error and no value.
 *
 * @throws the error itself when it does not come from the database
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
  return `check that MySQL 8.0.19 or later answers ${place}${tls}`;
}
