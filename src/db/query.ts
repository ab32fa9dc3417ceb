/**
 * A statement as a value: name, SQL, values, and how to read its rows; and the forms of SQL that
 * statements share. They are those that MySQL 8.0, MySQL 9 and compatible engines have in common.
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

/**
 * The end of an INSERT that overwrites these columns of the rows that exist. MySQL deprecates
 * `VALUES(column)`, with a warning that only SHOW WARNINGS returns, in favour of a form that
 * compatible engines lack.
 */
export function orUpdate(...columns: readonly string[]): string {
  const assignments = columns.map((column) => `${column} = VALUES(${column})`);
  return ` ON DUPLICATE KEY UPDATE ${assignments.join(', ')}`;
}

/**
 * The start of a DELETE whose condition is a list of keys. The form that takes FORCE INDEX, with
 * the table before FROM, scans and locks a small table all the same.
 */
export function deleteFrom(table: string, index = 'PRIMARY'): string {
  return `DELETE /*+ INDEX(${table} ${index}) */ FROM ${table} WHERE `;
}

/** The placeholders of one key and its values, such as `X?,?` for hexadecimal text and a number. */
type KeyForm = Readonly<{ placeholders: string }>;

/**
 * The FROM clause that joins a list of keys, each with further values in `named`, to the rows `t`
 * that have them. The join starts from the keys. Keys without values stand in an IN list, at half
 * the cost for the server. Both name their index: the server may scan a table that it estimates to
 * be small; a locking scan would lock rows of other transactions, and deadlock.
 *
 * @param columns the first columns of the primary key, in its order, and others to compare
 * @param rows the number of keys, at least 1; their values are bound row by row
 */
export function joinKeys(
  table: string,
  columns: readonly string[],
  rows: number,
  { placeholders }: KeyForm,
): string {
  const first = placeholders.split(',').map((one, position) => `${one} AS column_${position}`);
  const others = ` UNION ALL SELECT ${placeholders}`.repeat(rows - 1);
  const on = columns.map((column, position) => `t.${column} = named.column_${position}`);
  return `(SELECT ${first.join()}${others}) AS named
    STRAIGHT_JOIN ${table} AS t FORCE INDEX (PRIMARY) ON ${on.join(' AND ')}`;
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
