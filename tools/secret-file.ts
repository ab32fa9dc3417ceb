/** The server secret for development: a file next to the data, and not in the database. */
import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { randomSecret, parseSecrets } from '../src/otp/crypto/secrets.ts';

/**
 * Reads a file of secrets, creating it with one random secret when it does not exist.
 *
 * @param path only its owner can read the file (mode 0600)
 * @returns the secrets in the form of OTP_SECRETS
 * @throws Error when the file exists and its content is invalid
 */
export function readOrCreateSecretFile(path: string): string {
  try {
    createSecretFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  const text = readFileSync(path, 'utf8').trim();
  const parsed = parseSecrets(text);
  if ('errors' in parsed) throw new Error(`${path}: ${parsed.errors.join('; ')}`);
  return text;
}

/** link(2) makes the complete file appear at once, even when two processes create it. */
function createSecretFile(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const partial = `${path}.${randomBytes(8).toString('hex')}.partial`;
  writeFileSync(partial, `${randomSecret('local')}\n`, { mode: 0o600, flush: true });
  try {
    linkSync(partial, path);
  } finally {
    unlinkSync(partial);
  }
}
