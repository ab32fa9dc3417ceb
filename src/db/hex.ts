/**
 * Bytes as text. Digests and ids are drawn, compared, looked up and bound by the hundred thousand;
 * a text is cheaper for all of that than a Buffer, which is an object of its own.
 */

/** Bytes as lower-case hexadecimal text. A statement binds it as `X?`, or as `UNHEX(?)` if null. */
export type Hex = string;

/** The text of a BINARY column, as the driver gives it. */
export function hexOf(column: unknown): Hex {
  return (column as Buffer).toString('hex');
}

/** Like hexOf, for a column that may be NULL. */
export function nullableHexOf(column: unknown): Hex | null {
  return column === null ? null : hexOf(column);
}
