/**
 * The secrets that sign webhooks and the signature that is made with them, as Standard Webhooks
 * prescribes (https://www.standardwebhooks.com, "Signature scheme").
 */
import { createHmac } from 'node:crypto';

const PREFIX = 'whsec_';

/** Standard Webhooks, "Signature scheme": 24 to 64 bytes. */
const SECRET_MIN_BYTES = 24;
const SECRET_MAX_BYTES = 64;

/** The current one and, while receivers change over, the one before. */
const SECRETS_MAX = 2;

/**
 * Reads `whsec_base64,whsec_base64`, the current secret first.
 *
 * @returns the secrets, one or two, or what is wrong with the text, never quoting a secret
 */
export function parseWebhookSecrets(
  text: string,
): { secrets: readonly Buffer[] } | { faults: string[] } {
  const secrets: Buffer[] = [];
  const faults: string[] = [];
  text.split(',').forEach((entry, index) => {
    const encoded = entry.trim();
    const fault = findFault(encoded);
    if (fault !== null) faults.push(`entry ${index + 1} ${fault}`);
    else secrets.push(decode(encoded));
  });
  if (secrets.length > SECRETS_MAX) faults.push(`names more than ${SECRETS_MAX} secrets`);
  const different = new Set(secrets.map((secret) => secret.toString('base64')));
  if (different.size < secrets.length) faults.push('names a secret twice');
  return faults.length > 0 ? { faults } : { secrets: Object.freeze(secrets) };
}

function decode(encoded: string): Buffer {
  return Buffer.from(encoded.slice(PREFIX.length), 'base64');
}

function findFault(encoded: string): string | null {
  if (!encoded.startsWith(PREFIX)) return `must begin with ${PREFIX}`;
  const key = decode(encoded);
  const again = `${PREFIX}${key.toString('base64')}`;
  if (again.replace(/=+$/, '') !== encoded.replace(/=+$/, '')) return 'is not base64';
  if (key.length < SECRET_MIN_BYTES || key.length > SECRET_MAX_BYTES) {
    return `must have ${SECRET_MIN_BYTES} to ${SECRET_MAX_BYTES} bytes`;
  }
  // Of 24 random bytes about 23 are different, of 64 about 57; a typed sample has a few.
  if (new Set(key).size < key.length / 2) return 'is a sample, not a random secret';
  return null;
}

/**
 * Signs a webhook: `v1,` and the base64 of HMAC-SHA-256 over `id.timestamp.body`, once for each
 * secret, separated by spaces.
 *
 * @param id no dot in it
 * @param timestamp whole seconds since the epoch, as sent
 * @param body byte for byte as sent
 */
export function signWebhook(
  secrets: readonly Buffer[],
  id: string,
  timestamp: string,
  body: string,
): string {
  return secrets
    .map((key) => createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64'))
    .map((signature) => `v1,${signature}`)
    .join(' ');
}
