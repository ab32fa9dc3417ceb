/**
 * The server secrets, and the digests, public ids and pseudonyms that depend on them. The first
 * secret signs; all verify. An id of an OTP encodes its outbox batch for the holder of a server
 * secret; to anyone else it is 128 random bits.
 */
import { createCipheriv, createDecipheriv, createHmac, createSecretKey, hash } from 'node:crypto';
import type { Cipher, Decipher, KeyObject } from 'node:crypto';
import type { Hex } from '../../db/query.ts';
import { KEY_DIGEST_BYTES } from '../../db/tables/idempotency-keys.ts';
import type { OtpName, PairName } from '../../db/tables/otps.ts';
import { BATCH_ID_BYTES } from '../../db/tables/outbox.ts';
import { PURPOSE_DIGEST_BYTES, USER_DIGEST_BYTES } from '../../db/tables/wrong-counts.ts';
import type { CountName } from '../../db/tables/wrong-counts.ts';
import { randomHex, randomKey } from './random.ts';

/** Stored digests name the id, so that secrets can be rotated. Nothing prints a KeyObject. */
export type Secret = Readonly<{ id: string; key: KeyObject }>;

export type Secrets = Readonly<{ current: Secret; byId: ReadonlyMap<string, Secret> }>;

/** RFC 2104, 3 recommends at least the length of the hash: 32 bytes for SHA-256. */
const SECRET_MIN_BYTES = 32;
const SECRET_ID = /^[A-Za-z0-9_-]{1,32}$/;

/** Completes a sentence such as "must have …". */
export const SECRET_ID_RULE = 'an id of 1 to 32 letters, digits, - or _';

/**
 * Reads `id:base64,id:base64`, the current secret first.
 * @returns the secrets, or every error without quoting a secret
 */
export function parseSecrets(text: string): { secrets: Secrets } | { errors: string[] } {
  const secrets: Secret[] = [];
  const errors: string[] = [];
  text.split(',').forEach((entry, index) => {
    const [id, encoded, ...rest] = entry.trim().split(':');
    const error = rest.length > 0 ? 'must be id:base64' : findError(id, encoded);
    if (error !== null) errors.push(`entry ${index + 1} ${error}`);
    else secrets.push({ id: id!, key: createSecretKey(encoded!, 'base64') });
  });
  const byId = new Map(secrets.map((secret) => [secret.id, secret]));
  if (errors.length === 0 && byId.size < secrets.length) errors.push('contains an id twice');
  const current = secrets[0];
  if (errors.length > 0 || current === undefined) return { errors };
  return { secrets: Object.freeze({ current, byId }) };
}

export function isSecretId(text: string): boolean {
  return SECRET_ID.test(text);
}

/** A new secret in the format of `parseSecrets`. */
export function randomSecret(id: string): string {
  return `${id}:${randomKey(SECRET_MIN_BYTES).toString('base64')}`;
}

function findError(id: string | undefined, encoded: string | undefined): string | null {
  if (!id || !encoded) return 'must be id:base64';
  if (!isSecretId(id)) return `must have ${SECRET_ID_RULE}`;
  const key = Buffer.from(encoded, 'base64');
  if (key.toString('base64').replace(/=+$/, '') !== encoded.replace(/=+$/, '')) {
    return 'is not base64';
  }
  if (key.length < SECRET_MIN_BYTES) return `must have at least ${SECRET_MIN_BYTES} bytes`;
  // 32 random bytes have about 30 distinct values; a typed sample has a few.
  if (new Set(key).size < SECRET_MIN_BYTES / 2) return 'is a sample, not a random secret';
  return null;
}

/**
 * The digest of a code at rest (NIST SP 800-63B-4, 3.1.1.2): HMAC-SHA-256 over a domain, otp_id,
 * user_id, purpose and code. Lengths are included, so that no two tuples have the same encoding.
 * @param otpId 16 bytes, as hexadecimal digits
 * @returns 32 bytes, as hexadecimal digits
 */
export function digestCode(
  secret: Secret,
  otpId: Hex,
  userId: string,
  purpose: string,
  code: string,
): Hex {
  const user = Buffer.byteLength(userId);
  const text = `otpd code v1|${user}:${userId}|${Buffer.byteLength(purpose)}:${purpose}|${code}`;
  return createHmac('sha256', secret.key).update(otpId, 'hex').update(text).digest('hex');
}

/** For ids, counts and the tokens of devices. */
type DerivedKeys
  = Readonly<{ idCipher: Cipher; idDecipher: Decipher; ofCounts: Hex; ofDevices: Buffer }>;

const derivedKeys = new WeakMap<Secret, DerivedKeys>();

function deriveKeys(secret: Secret): DerivedKeys {
  let keys = derivedKeys.get(secret);
  if (keys === undefined) {
    const ofIds = deriveKey(secret, 'otpd otp_id');
    keys = {
      idCipher: createCipheriv(ID_CIPHER, ofIds, null).setAutoPadding(false),
      idDecipher: createDecipheriv(ID_CIPHER, ofIds, null).setAutoPadding(false),
      ofCounts: deriveKey(secret, 'otpd wrong counts v1').toString('hex'),
      ofDevices: deriveKey(secret, 'otpd device v1'),
    };
    derivedKeys.set(secret, keys);
  }
  return keys;
}

/**
 * Derives a key from a secret (HMAC-SHA-256 as the pseudorandom function, NIST SP 800-108).
 *
 * @param use distinct from the inputs of code digests, messages and reports, which are longer
 */
function deriveKey({ key }: Secret, use: string): Buffer {
  return createHmac('sha256', key).update(use).digest();
}

/** Authenticates the tokens of trusted devices. */
export function deviceKey(secret: Secret): Buffer {
  return deriveKeys(secret).ofDevices;
}

/**
 * The first digits of SHA-256 over a derived key and a text. Plain SHA-256 suffices, at a quarter
 * of the cost of HMAC: a truncated digest rules out length extension.
 */
function keyedDigest(key: Hex, text: string, digits: number): Hex {
  return hash('sha256', key + text, 'hex').slice(0, digits);
}

/** As long as a secret is configured, the counts under it are found. */
function countDigest(secret: Secret, text: string, bytes: number): Hex {
  return keyedDigest(deriveKeys(secret).ofCounts, text, 2 * bytes);
}

/** Names a user in wrong_counts. */
export function digestCountedUser(secret: Secret, userId: string): Hex {
  return countDigest(secret, `user ${userId}`, USER_DIGEST_BYTES);
}

const PURPOSE_HALF_BYTES = PURPOSE_DIGEST_BYTES / 2;

/** Names a pair in wrong_counts. The pairs of a purpose share the first half of a digest. */
export function nameCount(secret: Secret, { userId, purpose, device }: PairName): CountName {
  const names = `${Buffer.byteLength(userId)}:${userId}|${purpose}`;
  const pair = countDigest(secret, `pair ${names}`, PURPOSE_DIGEST_BYTES);
  return {
    userDigest: digestCountedUser(secret, userId),
    purposeDigest: device === '' ? pair : pair.slice(0, 2 * PURPOSE_HALF_BYTES)
      + countDigest(secret, `device ${device} ${names}`, PURPOSE_HALF_BYTES),
  };
}

/** Whether two names are of one user and purpose, and made under one secret. */
export function areOfOnePurpose(a: CountName, b: CountName): boolean {
  return a.userDigest === b.userDigest
    && a.purposeDigest.startsWith(b.purposeDigest.slice(0, 2 * PURPOSE_HALF_BYTES));
}

/** The subject of recipient_limit must fit its column, and not collide by chance. */
const RECIPIENT_DIGEST_BYTES = 16;

/**
 * Names a recipient in ip_rate_limits. Trusted devices have points of their own, which strangers
 * cannot use up.
 */
export function digestRecipient(secret: Secret, recipient: string, isDevice: boolean): Hex {
  const text = `${isDevice ? 'device ' : ''}recipient ${recipient}`;
  return countDigest(secret, text, RECIPIENT_DIGEST_BYTES);
}

/** Names the lock of an account in wrong_counts. */
export function nameAccountLock(secret: Secret, userId: string): CountName {
  return {
    userDigest: digestCountedUser(secret, userId),
    purposeDigest: countDigest(secret, `account ${userId}`, PURPOSE_DIGEST_BYTES),
  };
}

const KEY_DIGEST_DIGITS = 2 * KEY_DIGEST_BYTES;

/** A key belongs to one operation (docs/api.md, "Key"). */
type KeyedOperation = 'request' | 'verify';

/**
 * KEY_DIGEST_BYTES of SHA-256 over the operation, the API client and the key. The name of an API
 * client contains no colon, so no two triples have the same encoding.
 * @param key decoded, because both wire forms are the same key
 * @param apiClient null when no API keys are configured
 */
export function digestKey(operation: KeyedOperation, key: string, apiClient: string | null): Hex {
  const owner = apiClient === null ? operation : `${operation}@${apiClient}`;
  return shortDigest(`${owner}:${key}`);
}

/** The digest of a request's content. The length keeps two pairs from having the same encoding. */
export function fingerprintRequest(userId: string, purpose: string): Hex {
  return shortDigest(`${Buffer.byteLength(userId)}:${userId}|${purpose}`);
}

type RequestContent = Readonly<{ userId: string; purpose: string }>
  & Readonly<Partial<Record<'to' | 'channel' | 'locale', string | null | undefined>>>;

/**
 * Does the same for a request with optional members, under each secret, the current one first. It
 * is keyed, because a phone number could be guessed from a plain digest. No member contains a line
 * feed, and none is empty.
 *
 * @returns null for a request without optional members
 */
export function fingerprintOptions(
  { byId }: Secrets,
  { userId, purpose, to, channel, locale }: RequestContent,
): readonly Hex[] | null {
  if (!to && !channel && !locale) return null;
  const text = `request ${Buffer.byteLength(userId)}:${userId}|${purpose}`
    + `\n${to ?? ''}\n${channel ?? ''}\n${locale ?? ''}`;
  return [...byId.values()].map((secret) => countDigest(secret, text, KEY_DIGEST_BYTES));
}

/** The digest of a verification's content: the keyed digest of its code, truncated. */
export function fingerprintDigest(codeDigest: Hex): Hex {
  return codeDigest.slice(0, KEY_DIGEST_DIGITS);
}

function shortDigest(text: string): Hex {
  return hash('sha256', text, 'hex').slice(0, KEY_DIGEST_DIGITS);
}

/**
 * A single AES block per id: a permutation of 128 bits. ECB is safe because no block repeats, and
 * carries nothing from block to block, so that one cipher serves all batches.
 */
const ID_CIPHER = 'aes-256-ecb';
const BLOCK_DIGITS = 32;
const ID_RANDOM_BYTES = 16 - BATCH_ID_BYTES;

/**
 * Encrypts the batch id and 64 random bits under a key derived from the secret, once per OTP.
 * @param batchId 8 bytes, as hexadecimal digits
 * @returns ids of 16 bytes, as hexadecimal digits
 */
export function createOtpIds(secret: Secret, batchId: Hex, count: number): Hex[] {
  let blocks = '';
  for (let index = 0; index < count; index += 1) blocks += batchId + randomHex(ID_RANDOM_BYTES);
  const text = deriveKeys(secret).idCipher.update(blocks, 'hex', 'hex');
  return Array.from({ length: count }, (_, index) =>
    text.slice(index * BLOCK_DIGITS, (index + 1) * BLOCK_DIGITS));
}

/** Decrypts an id under each secret. All results but one name a batch that does not exist. */
export function decodeOtpId({ byId }: Secrets, otpId: Hex): OtpName[] {
  return [...byId.values()].map((secret) => {
    const block = deriveKeys(secret).idDecipher.update(otpId, 'hex', 'hex');
    return { otpId, batchId: block.slice(0, 2 * BATCH_ID_BYTES) };
  });
}

/**
 * Names users and client IPs in the log. The names are keyed, so that nobody finds the value by
 * guessing (OWASP ASVS 5.0, 14.2.4), and equal in all processes with the same secret.
 */
export type Pseudonyms = Readonly<{
  user: (userId: string) => string;
  clientIp: (clientIp: string) => string;
}>;

/** 64 bits: among a million users, a collision has a probability of 1 in 37 million. */
const PSEUDONYM_DIGITS = 16;

/** Cached client IPs: the proxies in front of otpd and returning clients. */
const CACHED_MAX = 4096;

/** Keeps users and client IPs as they are. */
const NO_PSEUDONYMS: Pseudonyms = Object.freeze({
  user: (userId: string) => userId,
  clientIp: (clientIp: string) => clientIp,
});

export function createPseudonyms(secret: Secret): Pseudonyms {
  const key = deriveKey(secret, 'otpd log pseudonyms v1').toString('hex');
  const cache = new Map<string, string>();
  return Object.freeze({
    user: (userId: string) => keyedDigest(key, `user ${userId}`, PSEUDONYM_DIGITS),
    clientIp: (clientIp: string) => {
      let name = cache.get(clientIp);
      if (name === undefined) {
        name = keyedDigest(key, `address ${clientIp}`, PSEUDONYM_DIGITS);
        if (cache.size >= CACHED_MAX) cache.clear();
        cache.set(clientIp, name);
      }
      return name;
    },
  });
}

/** @param isRaw whether the log shows users and client IPs as they are */
export function choosePseudonyms(secret: Secret, isRaw: boolean): Pseudonyms {
  return isRaw ? NO_PSEUDONYMS : createPseudonyms(secret);
}
