/**
 * Pseudonyms of users and client IPs for the log. They are keyed, so that they cannot be reversed
 * by guessing (OWASP ASVS 5.0, 14.2.4), and equal in all processes with the same secret.
 */
import { createHmac, hash } from 'node:crypto';
import type { Secret } from './secrets.ts';

export type Pseudonyms = Readonly<{
  user: (userId: string) => string;
  clientIp: (clientIp: string) => string;
}>;

/** 64 bits: among a million users, a collision has a probability of 1 in 37 million. */
const PSEUDONYM_DIGITS = 16;

/** Cached client IPs: the proxies in front of otpd and returning clients. */
const CACHED_MAX = 4096;

/** Keeps users and client IPs as they are. */
export const NO_PSEUDONYMS: Pseudonyms = Object.freeze({
  user: (userId: string) => userId,
  clientIp: (clientIp: string) => clientIp,
});

/**
 * Derives a key from the secret (HMAC-SHA-256 as the pseudorandom function, NIST SP 800-108). A
 * pseudonym is the first 16 hexadecimal digits of SHA-256 over the key, the kind and the value.
 * Plain SHA-256 suffices, at a quarter of the cost of HMAC: a truncated digest rules out length
 * extension.
 */
export function createPseudonyms(secret: Secret): Pseudonyms {
  const key = createHmac('sha256', secret.key).update('otpd log pseudonyms v1').digest('hex');
  const pseudonymOf = (text: string): string =>
    hash('sha256', key + text, 'hex').slice(0, PSEUDONYM_DIGITS);
  const cache = new Map<string, string>();
  return Object.freeze({
    user: (userId: string) => pseudonymOf(`user ${userId}`),
    clientIp: (clientIp: string) => {
      let name = cache.get(clientIp);
      if (name === undefined) {
        name = pseudonymOf(`address ${clientIp}`);
        if (cache.size >= CACHED_MAX) cache.clear();
        cache.set(clientIp, name);
      }
      return name;
    },
  });
}
