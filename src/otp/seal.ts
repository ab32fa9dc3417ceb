/**
 * Messages at rest: sealed, so that nothing in the database can be read without the server secret
 * (OWASP ASVS 5.0, 11.3.2 and 14.2.7).
 */
import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';
import type { Hex } from '../db/hex.ts';
import type { Secret } from './secrets.ts';

/** What is needed to send a message, and to give its quota point back. */
export type MessageContents = Readonly<{
  userId: string;
  purpose: string;
  code: string;
  lifetimeSeconds: number;
  locale: string;
  /** The client address whose quota point was used. */
  address: string;
}>;

const ALGORITHM = 'aes-256-gcm';

/** Every message has a key of its own, so that one nonce serves for all. */
const NONCE = Buffer.alloc(12);
const TAG_BYTES = 16;

/**
 * Seals a message: AES-256-GCM under a key that is derived from the secret and otp_id
 * (HMAC-SHA-256 as the pseudorandom function, NIST SP 800-108), so that it opens as the message of
 * that code alone.
 *
 * @param otpId 16 bytes, as text; never used for two different messages
 */
export function sealMessage(secret: Secret, otpId: Hex, contents: MessageContents): Hex {
  const { userId, purpose, code, lifetimeSeconds, locale, address } = contents;
  const text = JSON.stringify([userId, purpose, code, lifetimeSeconds, locale, address]);
  const cipher = createCipheriv(ALGORITHM, keyOf(secret, otpId), NONCE);
  const sealed = cipher.update(text, 'utf8', 'hex') + cipher.final('hex');
  return sealed + cipher.getAuthTag().toString('hex');
}

/**
 * Opens a message.
 *
 * @returns null when it was not sealed for this code under this secret, or was changed since
 */
export function openMessage(secret: Secret, otpId: Hex, sealed: Hex): MessageContents | null {
  const bytes = Buffer.from(sealed, 'hex');
  const end = bytes.length - TAG_BYTES;
  if (end < 0) return null;
  const options = { authTagLength: TAG_BYTES };
  const decipher = createDecipheriv(ALGORITHM, keyOf(secret, otpId), NONCE, options);
  decipher.setAuthTag(bytes.subarray(end));
  try {
    const head = decipher.update(bytes.subarray(0, end), undefined, 'utf8');
    const text = head + decipher.final('utf8');
    const [userId, purpose, code, lifetimeSeconds, locale, address] = JSON.parse(text);
    return { userId, purpose, code, lifetimeSeconds, locale, address };
  } catch {
    return null;
  }
}

/** No digest of a code has this input: theirs are longer. */
function keyOf({ key }: Secret, otpId: Hex): Buffer {
  return createHmac('sha256', key).update('otpd message v1|').update(otpId, 'hex').digest();
}
