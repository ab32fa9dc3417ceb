/** Placeholder lists for statements over a list of rows. */

/**
 * `(?,?),(?,?)` for a list of rows.
 *
 * @param rows how many rows, at least 1
 * @param row the placeholders of one row, such as `(?,?)` or `?`
 */
export function repeat(rows: number, row: string): string {
  return rows === 1 ? row : row + `,${row}`.repeat(rows - 1);
}
