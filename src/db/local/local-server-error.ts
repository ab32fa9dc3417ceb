/**
 * The one error of the private MySQL server that is meant for a person: what failed, why, and
 * what to do about it.
 */
/** The ways to get MySQL, as the last lines of every error that is about not having one. */
export const WAYS_TO_GET_MYSQL = [
  'Ways to give otpd a MySQL (8.0.19 or later):',
  '  - install MySQL, so that mysqld is on the PATH, and start again',
  '  - set MYSQLD to the full path of a mysqld program',
  '  - set DB_HOST or DB_SOCKET to use a MySQL server that is already running',
].join('\n');

/** The private server cannot be had or cannot run. `message` has several lines, for a person. */
export class LocalServerError extends Error {
  /**
   * @param lines what failed, why, and what to do; joined with line feeds
   * @param cause the error behind it, if there is one
   */
  constructor(lines: readonly string[], cause?: unknown) {
    super(lines.join('\n'), { cause });
    this.name = 'LocalServerError';
  }
}

/**
 * The code that Node's own errors carry (`ENOENT`, `EACCES`, …), or undefined for other values.
 *
 * @param error anything that was thrown
 */
export function errorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
