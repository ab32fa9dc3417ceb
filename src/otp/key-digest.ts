/** How an Idempotency-Key and its use are named in the database: by digest, never in clear. */
import { hash } from 'node:crypto';
import { KEY_DIGEST_BYTES } from '../db/idempotency-keys.ts';

/** A key belongs to one operation: the same text under the other is another key. */
export type KeyedOperation = 'request' | 'verify';

/**
 * The digest of the operation and the key, KEY_DIGEST_BYTES of SHA-256.
 *
 * @param key decoded; both wire forms of a key come here as one text
 */
export function digestKey(operation: KeyedOperation, key: string): Buffer {
  return digest(`${operation}:${key}`);
}

/** The digest of what a request asks for; the length keeps two pairs from one encoding. */
export function fingerprintRequest(userId: string, purpose: string): Buffer {
  return digest(`${Buffer.byteLength(userId)}:${userId}|${purpose}`);
}

/** What a verification redeems: the keyed digest of its code, as far as a fingerprint goes. */
export function fingerprintDigest(codeDigest: Buffer): Buffer {
  return codeDigest.subarray(0, KEY_DIGEST_BYTES);
}

/** By way of hexadecimal text, because a Buffer of its own costs more than the hash. */
function digest(text: string): Buffer {
  return Buffer.from(hash('sha256', text, 'hex').slice(0, 2 * KEY_DIGEST_BYTES), 'hex');
}
