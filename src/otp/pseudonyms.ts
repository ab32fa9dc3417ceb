/**
 * Names for users and addresses that tell nobody who they are, and are the same wherever the same
 * secret is in force: keyed, so that nobody can find one by trying (OWASP ASVS 5.0, 14.2.4).
 */
import { createHmac } from 'node:crypto';
import type { Secret } from './secrets.ts';

/** Names users and addresses for the log. */
export type Pseudonyms = Readonly<{
  user: (userId: string) => string;
  address: (address: string) => string;
}>;

/** 64 bits: of a million users two have one name at odds of 1 to 37 million. */
const PSEUDONYM_DIGITS = 16;

/** Names that are kept of each: clients come again, and users come to verify. */
const KEPT_MAX = 4096;

/** Those who are named as they are. */
export const NO_PSEUDONYMS: Pseudonyms = Object.freeze({
  user: (userId: string) => userId,
  address: (address: string) => address,
});

/**
 * Makes pseudonyms under a key of their own, derived from a secret (HMAC-SHA-256 as the
 * pseudorandom function, NIST SP 800-108): 16 hexadecimal digits each.
 */
export function createPseudonyms(secret: Secret): Pseudonyms {
  const key = createHmac('sha256', secret.key).update('otpd log pseudonyms v1').digest();
  const [user, address] = ['user ', 'address '].map((domain) => createNaming(key, domain));
  return Object.freeze({ user: user!, address: address! });
}

function createNaming(key: Buffer, domain: string): (text: string) => string {
  const kept = new Map<string, string>();
  return (text) => {
    let name = kept.get(text);
    if (name === undefined) {
      const digest = createHmac('sha256', key).update(domain + text).digest('hex');
      name = digest.slice(0, PSEUDONYM_DIGITS);
      if (kept.size >= KEPT_MAX) kept.clear();
      kept.set(text, name);
    }
    return name;
  };
}
