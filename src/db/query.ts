/** One statement as a value: its name, its text, its values, and how to read its rows. */
import type { Value } from './bind.ts';
import type { Row } from './session.ts';

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
export function mapAnswer<T, U>(
  { read, ...query }: Query<T>,
  make: (answer: T) => U,
): Query<U> {
  return { ...query, read: (rows) => make(read(rows)) };
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
