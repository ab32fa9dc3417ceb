/** How an Idempotency-Key and its use are named in the database: by digest, never in clear. */
import { createHash } from 'node:crypto';

/** A key belongs to one operation: the same text under the other is another key. */
export type KeyedOperation = 'request' | 'verify';

/**
 * SHA-256 of the operation and the key.
 *
 * @param key decoded; both wire forms of a key come here as one text
 */
export function digestKey(operation: KeyedOperation, key: string): Buffer {
  return createHash('sha256').update(`${operation}:${key}`).digest();
}

/** SHA-256 of what a request asks for; the lengths keep two tuples from one encoding. */
export function fingerprintRequest(userId: string, purpose: string): Buffer {
  return createHash('sha256').update(`${Buffer.byteLength(userId)}:${userId}|${purpose}`).digest();
}
