/**
 * Rows that are named by their keys, by a join that goes from the keys to the table. An
 * IN list may be answered by a scan of a table that the server believes to be small: it would lock,
 * and wait for, the rows of others, and deadlock.
 */
import { repeat } from './query.ts';

/** How keys are bound, and by which index their rows are found, if not by the primary key. */
type KeyForm = Readonly<{
  /** The placeholders of a key, such as `X?,?` for hexadecimal text and a number. */
  marks?: string;
  index?: string;
}>;

/**
 * The tables of a statement: the keys, and `t` for the rows that have them.
 *
 * @param columns of the index, in its order
 * @param rows how many keys; their values are bound row by row
 */
export function joinKeys(
  table: string,
  columns: readonly string[],
  rows: number,
  { marks = repeat(columns.length, '?'), index = 'PRIMARY' }: KeyForm = {},
): string {
  const on = columns.map((column, place) => `t.${column} = named.column_${place}`);
  return `(VALUES ${repeat(rows, `ROW(${marks})`)}) AS named
    STRAIGHT_JOIN ${table} AS t FORCE INDEX (${index}) ON ${on.join(' AND ')}`;
}
