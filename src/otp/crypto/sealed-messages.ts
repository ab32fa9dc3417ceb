/**
 * Encryption of messages at rest, so that the database alone reveals no code and no recipient
 * (OWASP ASVS 5.0, 11.3.2 and 14.2.7).
 */
import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';
import type { ChannelName, Message } from '../channels/channel.ts';
import type { Instant } from '../../db/instant.ts';
import type { Hex } from '../../db/query.ts';
import { randomHex } from './random.ts';
import type { Secret } from './secrets.ts';

/** A message, and the subjects in slots whose points its OTP took (db/tables/ip-limits.ts). */
export type Sealable = Readonly<{ message: Message; subjects: readonly string[] }>;

const ALGORITHM = 'aes-256-gcm';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** An array is half as long as an object. What only few messages have stands with the locale. */
type StoredFields = [
  userId: string, purpose: string, code: string, lifetimeSeconds: number, expiresAt: Instant,
  locale: string | [locale: string, to: string | null, channel: ChannelName | null],
  firstSubject: string | null, ...otherSubjects: string[],
];

/**
 * AES-256-GCM under a key derived from the secret and the batch id (HMAC-SHA-256 as the
 * pseudorandom function, NIST SP 800-108). The otp_ids are authenticated, so that a sealed message
 * opens for its own OTP only. Resealing a batch uses a fresh nonce.
 * @param batchId 8 bytes, as hexadecimal digits
 * @returns nonce, ciphertext and tag
 */
export function sealMessages(secret: Secret, batchId: Hex, messages: readonly Sealable[]): Hex {
  const otpIds = messages.map(({ message }) => message.otpId);
  const text = JSON.stringify(messages.map(pack));
  return encrypt(deriveKey(secret, batchId), randomHex(NONCE_BYTES), otpIds, text);
}

/**
 * Seals a message for the URL at which its provider reports what became of it. The URL
 * authenticates the report, and brings back a message that is stored nowhere once the provider has
 * accepted it. The nonce is derived from the text under a key of this OTP, so that a repeated
 * attempt sends the same bytes.
 * @returns letters, digits, - and _
 */
export function sealReport(secret: Secret, sealable: Sealable): string {
  const { otpId } = sealable.message;
  const key = deriveReportKey(secret, otpId);
  const text = JSON.stringify([pack(sealable)]);
  const nonce = createHmac('sha256', key).update(text).digest('hex').slice(0, 2 * NONCE_BYTES);
  return Buffer.from(encrypt(key, nonce, [otpId], text), 'hex').toString('base64url');
}

/** @returns null when the text was not sealed for this OTP under this secret */
export function openReport(secret: Secret, otpId: Hex, text: string): Sealable | null {
  const bytes = Buffer.from(text, 'base64url');
  return decrypt(deriveReportKey(secret, otpId), [otpId], bytes)?.[0] ?? null;
}

function encrypt(key: Buffer, nonce: Hex, otpIds: readonly Hex[], text: string): Hex {
  const cipher = createCipheriv(ALGORITHM, key, Buffer.from(nonce, 'hex'));
  cipher.setAAD(Buffer.from(otpIds.join(''), 'hex'));
  const sealed = cipher.update(text, 'utf8', 'hex') + cipher.final('hex');
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
  return decrypt(deriveKey(secret, batchId), otpIds, Buffer.from(sealed, 'hex'));
}

function decrypt(key: Buffer, otpIds: readonly Hex[], bytes: Buffer): Sealable[] | null {
  const end = bytes.length - TAG_BYTES;
  if (end < NONCE_BYTES) return null;
  const nonce = bytes.subarray(0, NONCE_BYTES);
  const decipher = createDecipheriv(ALGORITHM, key, nonce, { authTagLength: TAG_BYTES });
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

function pack({ message, subjects }: Sealable): StoredFields {
  const { userId, purpose, code, lifetimeSeconds, expiresAt } = message;
  const { locale, to = null, channel = null } = message;
  const [first = null, ...others] = subjects;
  return [userId, purpose, code, lifetimeSeconds, expiresAt,
    (to ?? channel) === null ? locale : [locale, to, channel], first, ...others];
}

function unpack(otpId: Hex, stored: StoredFields): Sealable {
  const [userId, purpose, code, lifetimeSeconds, expiresAt, fields, first, ...others] = stored;
  const [locale, to, channel] = typeof fields === 'string' ? [fields, null, null] : fields;
  const message
    = { otpId, userId, to, purpose, code, lifetimeSeconds, expiresAt, locale, channel };
  return { message, subjects: first === null ? [] : [first, ...others] };
}

/** Distinct from the inputs of code digests, which are longer. */
function deriveKey({ key }: Secret, batchId: Hex): Buffer {
  return createHmac('sha256', key).update('otpd messages|').update(batchId, 'hex').digest();
}

/** Distinct from the inputs of deriveKey, so that no row of the outbox opens as a report. */
function deriveReportKey({ key }: Secret, otpId: Hex): Buffer {
  return createHmac('sha256', key).update('otpd report v1|').update(otpId, 'hex').digest();
}
