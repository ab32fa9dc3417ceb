/** A finding of doctor: what was checked, what was found and what to do about it. */
import { MYSQL_REMEDY } from '../../../db/checks/mysql-version.ts';
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

const UNKNOWN_REMEDY = 'check the error log of MySQL';

/**
 * Turns a database error into a finding that names the error and no value.
 *
 * @throws the error itself when it does not come from the database
 */
export function toConnectionFinding(error: unknown): Finding {
  if (!(error instanceof Unavailable) && !(error instanceof StatementError)) throw error;
  const check = error.remedy === MYSQL_REMEDY ? 'version' : 'connection';
  return fault(check, error.message, error.remedy ?? UNKNOWN_REMEDY);
}
