/** What stood in the way of looking at the database, and what to do about it. */
import type { DatabaseSettings } from '../../../db/session.ts';
import { StatementError } from '../../../db/statement-error.ts';
import { Unavailable } from '../../../db/unavailable.ts';
import { fault } from './finding.ts';
import type { Finding } from './finding.ts';

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
export function judgeFailure(error: unknown, settings: DatabaseSettings): Finding {
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
