/**
 * Puts values in the place of the question marks of a statement. As the driver does, and with its
 * own escaping, but several times as fast for the long statements of a list of requests; and
 * nothing but the four kinds of Value is let through.
 */
import mysql from 'mysql2';

/** A value that may be bound. Objects and arrays never: a driver would spell them as SQL. */
export type Value = string | number | null | Buffer;

/** Text in which nothing is special to SQL: what most identifiers and all times are made of. */
const PLAIN_TEXT = /^[\w .:@+-]*$/;

/**
 * Binds values, in order. No question mark may stand in a literal or comment of the statement.
 *
 * @throws TypeError when their number differs from that of the question marks, or one is no Value
 */
export function bindValues(sql: string, values: readonly Value[]): string {
  let text = '';
  let from = 0;
  for (const value of values) {
    const mark = sql.indexOf('?', from);
    if (mark === -1) throw new TypeError('more values than question marks');
    text += sql.slice(from, mark) + literal(value);
    from = mark + 1;
  }
  if (sql.includes('?', from)) throw new TypeError('more question marks than values');
  return text + sql.slice(from);
}

function literal(value: Value): string {
  if (typeof value === 'string') {
    return PLAIN_TEXT.test(value) ? `'${value}'` : mysql.escape(value);
  }
  if (typeof value === 'number' && Number.isFinite(value)) return String(value);
  if (value === null) return 'NULL';
  if (Buffer.isBuffer(value)) return `X'${value.toString('hex')}'`;
  throw new TypeError(`a ${typeof value} cannot be bound`);
}
