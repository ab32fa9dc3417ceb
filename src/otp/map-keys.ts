/** Keys of in-memory maps for things that are compared byte for byte. */
import type { PairName } from '../db/otps.ts';

/** A text for a pair. No identifier holds a control character, so NUL separates without doubt. */
export function pairKey({ userId, purpose }: PairName): string {
  return `${userId}\0${purpose}`;
}

/** A text for bytes. */
export function bytesKey(bytes: Buffer): string {
  return bytes.toString('latin1');
}
