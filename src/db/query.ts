/**
 * A statement as a value: name, SQL, values, and how to read its rows; and how statements name rows
 * by key.
 */

/** One row by column name. DATETIME columns are text, BINARY columns are Buffers. */
export type Row = Readonly<Record<string, unknown>>;

export type Value = string | number | null | Buffer;

/** Errors and logs show `name`, never the SQL. */
export type Query<T> = Readonly<{
  name: string;
  sql: string;
  values: readonly Value[];
  read: (rows: readonly Row[]) => T;
}>;

export type Write = Query<void>;

export function write(name: string, sql: string, values: readonly Value[]): Write {
  return { name, sql, values, read: readNothing };
}

function readNothing(): void {}

export function mapResult<T, U>(
  { read, ...query }: Query<T>,
  map: (result: T) => U,
): Query<U> {
  return { ...query, read: (rows) => map(read(rows)) };
}

/**
 * Repeats the placeholders of one row: `(?,?),(?,?)`.
 *
 * @param rows at least 1
 */
export function repeat(rows: number, row: string): string {
  return rows === 1 ? row : row + `,${row}`.repeat(rows - 1);
}

type KeyForm = Readonly<{
  /** The placeholders of one key, such as `X?,?` for hexadecimal text and a number. */
  placeholders?: string;
  index?: string;
}>;

/**
 * The FROM clause that joins a list of keys to the rows `t` that have them. The join starts from
 * the keys. With an IN list the server may scan a table that it estimates to be small; a locking
 * scan would lock rows of other transactions, and deadlock.
 *
 * @param columns the columns of the index, in its order
 * @param rows the number of keys; their values are bound row by row
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

/**
 * Bytes as lower-case hexadecimal text, bound as `X?`, or as `UNHEX(?)` when NULL is possible. Text
 * is cheaper to compare and to look up than a Buffer.
 */
export type Hex = string;

/** @param column a BINARY column as the driver returns it */
export function toHex(column: unknown): Hex {
  return (column as Buffer).toString('hex');
}

export function toNullableHex(column: unknown): Hex | null {
  return column === null ? null : toHex(column);
}

/**
 * Compares rows by a string key, in the order of UTF-16 code units. All transactions write rows in
 * this one order, so that no two of them deadlock.
 */
export function byKey<T>(keyOf: (row: T) => string): (a: T, b: T) => number {
  return (a, b) => {
    const first = keyOf(a);
    const second = keyOf(b);
    return first < second ? -1 : Number(first > second);
  };
}
