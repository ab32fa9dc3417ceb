/** How an Idempotency-Key and its use are named in the database: by digest, never in clear. */
import { hash } from 'node:crypto';
import type { Hex } from '../db/hex.ts';
import { KEY_DIGEST_BYTES } from '../db/request-keys.ts';

const KEY_DIGEST_DIGITS = 2 * KEY_DIGEST_BYTES;

/** A key belongs to one operation: the same text under the other is another key. */
export type KeyedOperation = 'request' | 'verify';

/**
 * The digest of the operation, the caller and the key, KEY_DIGEST_BYTES of SHA-256. No name of a
 * caller has a colon, so no two of these have one text.
 *
 * @param key decoded; both wire forms of a key come here as one text
 * @param caller whose key it is; null when callers have no names
 */
export function digestKey(operation: KeyedOperation, key: string, caller: string | null): Hex {
  return digest(caller === null ? `${operation}:${key}` : `${operation}@${caller}:${key}`);
}

/** The digest of what a request asks for; the length keeps two pairs from one encoding. */
export function fingerprintRequest(userId: string, purpose: string): Hex {
  return digest(`${Buffer.byteLength(userId)}:${userId}|${purpose}`);
}

/** What a verification redeems: the keyed digest of its code, as far as a fingerprint goes. */
export function fingerprintDigest(codeDigest: Hex): Hex {
  return codeDigest.slice(0, KEY_DIGEST_DIGITS);
}

function digest(text: string): Hex {
  return hash('sha256', text, 'hex').slice(0, KEY_DIGEST_DIGITS);
}
