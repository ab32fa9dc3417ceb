/** One statement as a value: its name, its text, its values, and how to read its rows. */
import type { Value } from './bind.ts';
import type { Row } from './connection.ts';

/** A statement that gives a T. `name` is what logs and errors call it. */
export type Query<T> = Readonly<{
  name: string;
  sql: string;
  values: readonly Value[];
  read: (rows: readonly Row[]) => T;
}>;

/** A statement that only writes. */
export type Write = Query<void>;

/** Makes a statement that only writes. */
export function write(name: string, sql: string, values: readonly Value[]): Write {
  return { name, sql, values, read: readNothing };
}

function readNothing(): void {}

/** The same statement, for what is made of its answer. */
export function mapResult<T, U>(
  { read, ...query }: Query<T>,
  map: (result: T) => U,
): Query<U> {
  return { ...query, read: (rows) => map(read(rows)) };
}

/**
 * `(?,?),(?,?)` for a list of rows.
 *
 * @param rows how many rows, at least 1
 * @param row the placeholders of one row, such as `(?,?)` or `?`
 */
export function repeat(rows: number, row: string): string {
  return rows === 1 ? row : row + `,${row}`.repeat(rows - 1);
}

/** How keys are bound, and by which index their rows are found, if not by the primary key. */
type KeyForm = Readonly<{
  /** The placeholders of a key, such as `X?,?` for hexadecimal text and a number. */
  placeholders?: string;
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
  { placeholders = repeat(columns.length, '?'), index = 'PRIMARY' }: KeyForm = {},
): string {
  const on = columns.map((column, position) => `t.${column} = named.column_${position}`);
  return `(VALUES ${repeat(rows, `ROW(${placeholders})`)}) AS named
    STRAIGHT_JOIN ${table} AS t FORCE INDEX (${index}) ON ${on.join(' AND ')}`;
}

/** Bytes as lower-case hexadecimal text. A statement binds it as `X?`, or as `UNHEX(?)` if null. */
export type Hex = string;

/** The text of a BINARY column, as the driver gives it. */
export function toHex(column: unknown): Hex {
  return (column as Buffer).toString('hex');
}

/** Like toHex, for a column that may be NULL. */
export function toNullableHex(column: unknown): Hex | null {
  return column === null ? null : toHex(column);
}
