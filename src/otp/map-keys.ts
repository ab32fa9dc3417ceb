/** Keys of in-memory maps for things that are compared byte for byte. */

/** A text for bytes. */
export function bytesKey(bytes: Buffer): string {
  return bytes.toString('latin1');
}
