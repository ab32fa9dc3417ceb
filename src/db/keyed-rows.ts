/**
 * Changing rows that are named by their keys, by a join that goes from the keys to the table. An
 * IN list may be answered by a scan of a table that the server believes to be small: it would lock,
 * and wait for, the rows of others, and deadlock.
 */
import { repeat } from './query.ts';

/**
 * The tables of a DELETE or UPDATE: the keys, and `t` for the rows that have them.
 *
 * @param columns of the primary key, in its order
 * @param rows how many keys; their values are bound row by row
 * @param mark the placeholder of a value, such as `X?` for hexadecimal text
 */
export function joinKeys(
  table: string,
  columns: readonly string[],
  rows: number,
  mark = '?',
): string {
  const keys = repeat(rows, `ROW(${repeat(columns.length, mark)})`);
  const on = columns.map((column, index) => `t.${column} = named.column_${index}`);
  return `(VALUES ${keys}) AS named
    STRAIGHT_JOIN ${table} AS t FORCE INDEX (PRIMARY) ON ${on.join(' AND ')}`;
}
