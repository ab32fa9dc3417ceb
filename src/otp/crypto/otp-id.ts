/**
 * The public names of codes. A name tells where its code is kept: to whoever has the server secret.
 * To everybody else it is 128 random bits.
 */
import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';
import type { Hex } from '../../db/query.ts';
import type { OtpName } from '../../db/tables/otps.ts';
import { BATCH_ID_BYTES } from '../../db/tables/outbox.ts';
import { randomHex } from './random.ts';
import type { Secret, Secrets } from './secrets.ts';

/** One block of AES, so that each name is enciphered by itself: a permutation of 128 bits. */
const ALGORITHM = 'aes-256-ecb';
const BLOCK_DIGITS = 32;
const RANDOM_BYTES = 16 - BATCH_ID_BYTES;

const keys = new WeakMap<Secret, Buffer>();

/**
 * Draws names for the codes of a bundle: its name and 64 random bits, enciphered under a key that
 * is derived from the secret.
 *
 * @param bundleId 8 bytes, as text
 * @returns so many names of 16 bytes, as text
 */
export function createOtpIds(secret: Secret, batchId: Hex, count: number): Hex[] {
  let blocks = '';
  for (let index = 0; index < count; index += 1) blocks += batchId + randomHex(RANDOM_BYTES);
  const cipher = createCipheriv(ALGORITHM, deriveKey(secret), null).setAutoPadding(false);
  const text = cipher.update(blocks, 'hex', 'hex');
  return Array.from({ length: count }, (_, index) =>
    text.slice(index * BLOCK_DIGITS, (index + 1) * BLOCK_DIGITS));
}

/** Where a code may be kept: under each of the secrets in another bundle, which may not exist. */
export function decodeOtpId({ byId }: Secrets, otpId: Hex): OtpName[] {
  return [...byId.values()].map((secret) => {
    const decipher = createDecipheriv(ALGORITHM, deriveKey(secret), null).setAutoPadding(false);
    return { otpId, batchId: decipher.update(otpId, 'hex', 'hex').slice(0, 2 * BATCH_ID_BYTES) };
  });
}

/** No digest of a code and no key of a bundle has this input: theirs are longer. */
function deriveKey(secret: Secret): Buffer {
  let key = keys.get(secret);
  if (key === undefined) {
    key = createHmac('sha256', secret.key).update('otpd otp_id').digest();
    keys.set(secret, key);
  }
  return key;
}
