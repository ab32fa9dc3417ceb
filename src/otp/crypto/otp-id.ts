/**
 * Public ids of OTPs. An id encodes the outbox batch of its OTP for the holder of a server secret;
 * to anyone else it is 128 random bits.
 */
import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';
import type { Hex } from '../../db/query.ts';
import type { OtpName } from '../../db/tables/otps.ts';
import { BATCH_ID_BYTES } from '../../db/tables/outbox.ts';
import { randomHex } from './random.ts';
import type { Secret, Secrets } from './secrets.ts';

/** A single AES block per id: a permutation of 128 bits. ECB is safe because no block repeats. */
const ALGORITHM = 'aes-256-ecb';
const BLOCK_DIGITS = 32;
const RANDOM_BYTES = 16 - BATCH_ID_BYTES;

const keys = new WeakMap<Secret, Buffer>();

/**
 * Encrypts the batch id and 64 random bits under a key derived from the secret, once per OTP.
 * @param batchId 8 bytes, as hexadecimal digits
 * @returns ids of 16 bytes, as hexadecimal digits
 */
export function createOtpIds(secret: Secret, batchId: Hex, count: number): Hex[] {
  let blocks = '';
  for (let index = 0; index < count; index += 1) blocks += batchId + randomHex(RANDOM_BYTES);
  const cipher = createCipheriv(ALGORITHM, deriveKey(secret), null).setAutoPadding(false);
  const text = cipher.update(blocks, 'hex', 'hex');
  return Array.from({ length: count }, (_, index) =>
    text.slice(index * BLOCK_DIGITS, (index + 1) * BLOCK_DIGITS));
}

/** Decrypts an id under each secret. All results but one name a batch that does not exist. */
export function decodeOtpId({ byId }: Secrets, otpId: Hex): OtpName[] {
  return [...byId.values()].map((secret) => {
    const decipher = createDecipheriv(ALGORITHM, deriveKey(secret), null).setAutoPadding(false);
    return { otpId, batchId: decipher.update(otpId, 'hex', 'hex').slice(0, 2 * BATCH_ID_BYTES) };
  });
}

/** Distinct from the inputs of the other derivations, which are longer. */
function deriveKey(secret: Secret): Buffer {
  let key = keys.get(secret);
  if (key === undefined) {
    key = createHmac('sha256', secret.key).update('otpd otp_id').digest();
    keys.set(secret, key);
  }
  return key;
}
