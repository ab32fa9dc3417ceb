/**
 * Encryption of messages at rest, so that the database alone reveals no code and no recipient
 * (OWASP ASVS 5.0, 11.3.2 and 14.2.7).
 */
import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';
import type { Message } from '../channels/channel.ts';
import type { Instant } from '../../db/instant.ts';
import type { Hex } from '../../db/query.ts';
import { randomHex } from './random.ts';
import type { Secret } from './secrets.ts';

/** A message, and the subjects in slots whose points its OTP took (db/tables/ip-limits.ts). */
export type Sealable = Readonly<{ message: Message; subjects: readonly string[] }>;

const ALGORITHM = 'aes-256-gcm';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** An array is half as long as an object, and needs no lookup of members. */
type StoredFields = [
  userId: string, purpose: string, code: string, lifetimeSeconds: number, expiresAt: Instant,
  locale: string, firstSubject: string | null, ...otherSubjects: string[],
];

/**
 * AES-256-GCM under a key derived from the secret and the batch id (HMAC-SHA-256 as the
 * pseudorandom function, NIST SP 800-108). The otp_ids are authenticated, so that a sealed message
 * opens for its own OTP only. Resealing a batch uses a fresh nonce.
 * @param batchId 8 bytes, as hexadecimal digits
 * @returns nonce, ciphertext and tag
 */
export function sealMessages(secret: Secret, batchId: Hex, messages: readonly Sealable[]): Hex {
  const stored = messages.map(({ message, subjects }): StoredFields => {
    const { userId, purpose, code, lifetimeSeconds, expiresAt, locale } = message;
    const [first = null, ...others] = subjects;
    return [userId, purpose, code, lifetimeSeconds, expiresAt, locale, first, ...others];
  });
  const nonce = randomHex(NONCE_BYTES);
  const cipher = createCipheriv(ALGORITHM, deriveKey(secret, batchId), Buffer.from(nonce, 'hex'));
  cipher.setAAD(Buffer.from(messages.map(({ message }) => message.otpId).join(''), 'hex'));
  const sealed = cipher.update(JSON.stringify(stored), 'utf8', 'hex') + cipher.final('hex');
  return nonce + sealed + cipher.getAuthTag().toString('hex');
}

/**
 * @param otpIds in the order in which they were sealed
 * @returns null when the text was sealed differently or has been changed
 */
export function openMessages(
  secret: Secret,
  batchId: Hex,
  otpIds: readonly Hex[],
  sealed: Hex,
): Sealable[] | null {
  const bytes = Buffer.from(sealed, 'hex');
  const end = bytes.length - TAG_BYTES;
  if (end < NONCE_BYTES) return null;
  const nonce = bytes.subarray(0, NONCE_BYTES);
  const options = { authTagLength: TAG_BYTES };
  const decipher = createDecipheriv(ALGORITHM, deriveKey(secret, batchId), nonce, options);
  decipher.setAAD(Buffer.from(otpIds.join(''), 'hex'));
  decipher.setAuthTag(bytes.subarray(end));
  try {
    const head = decipher.update(bytes.subarray(NONCE_BYTES, end), undefined, 'utf8');
    const stored = JSON.parse(head + decipher.final('utf8')) as StoredFields[];
    return stored.map((fields, index) => unpack(otpIds[index]!, fields));
  } catch {
    return null;
  }
}

function unpack(otpId: Hex, stored: StoredFields): Sealable {
  const [userId, purpose, code, lifetimeSeconds, expiresAt, locale, first, ...others] = stored;
  const message = { otpId, userId, purpose, code, lifetimeSeconds, expiresAt, locale };
  return { message, subjects: first === null ? [] : [first, ...others] };
}

/** Distinct from the inputs of code digests, which are longer. */
function deriveKey({ key }: Secret, batchId: Hex): Buffer {
  return createHmac('sha256', key).update('otpd messages|').update(batchId, 'hex').digest();
}
