/** The generated secret of the private database: kept in a file beside its data, not in it. */
import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { randomSecret, parseSecrets } from './crypto/secrets.ts';
import type { Secrets } from './crypto/secrets.ts';

/**
 * Reads the secrets of a file, making the file with one random secret when there is none.
 *
 * @param path readable by its owner alone (mode 0600)
 * @throws Error when the file is there and its text is at fault
 */
export function readOrCreateSecretFile(path: string): Secrets {
  try {
    createSecretFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  const parsed = parseSecrets(readFileSync(path, 'utf8').trim());
  if ('errors' in parsed) throw new Error(`${path}: ${parsed.errors.join('; ')}`);
  return parsed.secrets;
}

/** By link(2), so that the file is there whole or not at all, also after a crash. */
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
