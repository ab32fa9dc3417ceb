/** `otpd key new`: makes a key for a caller. It is printed once, and kept nowhere. */
import { nameFault, newKey, parseScopes, SCOPES } from '../../http/input/api-keys.ts';
import { randomHex } from '../../otp/crypto/random.ts';
import { randomSecret, isSecretId, SECRET_ID_RULE } from '../../otp/crypto/secrets.ts';
import { UsageError } from '../output.ts';
import type { Report } from '../output.ts';

/** What most callers do. */
const DEFAULT_SCOPES = 'request+verify+read';

/**
 * Makes a key. It needs no database and no configuration.
 *
 * @throws UsageError when it cannot be made of these
 */
export function makeKey(name: string, scopesText: string = DEFAULT_SCOPES): Report {
  const rule = nameFault(name);
  if (rule !== null) throw new UsageError(`NAME must be ${rule}`);
  const scopes = parseScopes(scopesText);
  if (scopes === null) {
    throw new UsageError(`SCOPES must be out of ${SCOPES.join(', ')}, joined by +`);
  }
  const { key, entry } = newKey({ name, scopes });
  const lines = [`key: ${key}`, `API_KEYS entry: ${entry}`];
  return { isDone: true, lines, data: { name, scopes, key, entry } };
}

const ID_BYTES = 4;

const ROTATION_NOTE = 'put it first in OTP_SECRETS, NEW,OLD, in every process; keep the old one'
  + ' for as long as a code lives and its idempotency keys replay (24 h and 10 minutes, unless'
  + ' key_retention_seconds is more)';

/**
 * Draws a secret of 32 random bytes.
 *
 * @param id its name; a random one without it
 * @throws UsageError when it can have no such name
 */
export function newSecret(id: string = `k${randomHex(ID_BYTES)}`): Report {
  if (!isSecretId(id)) throw new UsageError(`ID must be ${SECRET_ID_RULE}`);
  const secret = randomSecret(id);
  return { isDone: true, lines: [secret], data: { secret }, note: ROTATION_NOTE };
}
