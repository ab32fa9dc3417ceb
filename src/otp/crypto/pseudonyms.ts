/**
 * Names for users and addresses that tell nobody who they are, and are the same wherever the same
 * secret is in force: keyed, so that nobody can find one by trying (OWASP ASVS 5.0, 14.2.4).
 */
import { createHmac, hash } from 'node:crypto';
import type { Secret } from './secrets.ts';

/** Names users and addresses for the log. */
export type Pseudonyms = Readonly<{
  user: (userId: string) => string;
  clientIp: (address: string) => string;
}>;

/** 64 bits: of a million users two have one name at odds of 1 to 37 million. */
const PSEUDONYM_DIGITS = 16;

/** Addresses whose names are cache: the proxies in front of otpd, and clients that come again. */
const CACHED_MAX = 4096;

/** Those who are named as they are. */
export const NO_PSEUDONYMS: Pseudonyms = Object.freeze({
  user: (userId: string) => userId,
  clientIp: (address: string) => address,
});

/**
 * Makes pseudonyms under a key of their own, derived from a secret (HMAC-SHA-256 as the
 * pseudorandom function, NIST SP 800-108): the first 16 hexadecimal digits of SHA-256 over the key,
 * what is named, and its text. As so few of the digits are told, the digest cannot be gone on from,
 * and HMAC would protect from nothing else, at four times the cost.
 */
export function createPseudonyms(secret: Secret): Pseudonyms {
  const key = createHmac('sha256', secret.key).update('otpd log pseudonyms v1').digest('hex');
  const pseudonymOf = (text: string): string =>
    hash('sha256', key + text, 'hex').slice(0, PSEUDONYM_DIGITS);
  const cache = new Map<string, string>();
  return Object.freeze({
    user: (userId: string) => pseudonymOf(`user ${userId}`),
    clientIp: (address: string) => {
      let name = cache.get(address);
      if (name === undefined) {
        name = pseudonymOf(`address ${address}`);
        if (cache.size >= CACHED_MAX) cache.clear();
        cache.set(address, name);
      }
      return name;
    },
  });
}
