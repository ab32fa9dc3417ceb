/** The error of the development MySQL, whose message is for the developer. */

/** The last lines of every error about a missing MySQL. */
export const WAYS_TO_GET_MYSQL = [
  'There are three ways to provide a MySQL (8.0.19 or later):',
  '  - install MySQL, so that mysqld is on the PATH, and start again',
  '  - set MYSQLD to the full path of a mysqld program',
  '  - set DB_HOST or DB_SOCKET to use a MySQL server that is already running',
].join('\n');

/** MySQL cannot be obtained, or cannot run. The message has several lines. */
export class MysqlServerError extends Error {
  /**
   * @param lines what failed, why, and what to do; joined with line feeds
   * @param cause the underlying error, if any
   */
  constructor(lines: readonly string[], cause?: unknown) {
    super(lines.join('\n'), { cause });
    this.name = 'MysqlServerError';
  }
}

/** The code of an error of Node (`ENOENT`, `EACCES`, …); undefined for anything else. */
export function errorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
