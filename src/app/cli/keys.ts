/** `otpd key new` and `otpd secret new`: both print a new secret once and store nothing. */
import {
  nameError, newKey, parseRestrictions, parseScopes, RESTRICTIONS_RULE, SCOPES,
} from '../../http/input/api-keys.ts';
import { randomHex } from '../../otp/crypto/random.ts';
import { randomSecret, isSecretId, SECRET_ID_RULE } from '../../otp/crypto/secrets.ts';
import { UsageError } from '../output.ts';
import type { Report } from '../output.ts';

/** The scopes that most API clients need. */
export const DEFAULT_SCOPES = 'request+verify+read';

/**
 * Creates an API key, of which API_KEYS gets only the digest.
 *
 * @param rest the scopes, if any, and then the restrictions as in an entry of API_KEYS
 * @throws UsageError when one of the arguments is invalid
 */
export function makeKey(name: string, ...rest: string[]): Report {
  const hasScopes = rest.length > 0 && !rest[0]!.includes('=');
  const scopesText = hasScopes ? rest[0]! : DEFAULT_SCOPES;
  const restrictions = rest.slice(hasScopes ? 1 : 0);
  const rule = nameError(name);
  if (rule !== null) throw new UsageError(`NAME must be ${rule}`);
  const scopes = parseScopes(scopesText);
  if (scopes === null) {
    throw new UsageError(`SCOPES must be one or more of ${SCOPES.join(', ')}, joined by +`);
  }
  if (restrictions.some((each) => /[,:\s]/.test(each)) || !parseRestrictions(restrictions)) {
    throw new UsageError(`a RESTRICTION must be one of ${RESTRICTIONS_RULE}; characters such as`
      + ' + , : and blanks in a purpose are percent-encoded');
  }
  const { key, entry } = newKey({ name, scopes }, restrictions);
  const lines = [`key: ${key}`, `API_KEYS entry: ${entry}`];
  return { isDone: true, lines, data: { name, scopes, key, entry } };
}

const ID_BYTES = 4;

const ROTATION_NOTE = 'add it to OTP_SECRETS. To replace a secret, put the new one second'
  + ' (OLD,NEW) and restart every process, then put it first (NEW,OLD) and restart them again; keep'
  + ' the old secret until its codes and their idempotency keys have expired (24 h and 10 minutes,'
  + ' or more with a longer key_retention_seconds)';

/**
 * Creates a server secret of 32 random bytes.
 *
 * @param id the default is random
 * @throws UsageError when the id is invalid
 */
export function newSecret(id: string = `k${randomHex(ID_BYTES)}`): Report {
  if (!isSecretId(id)) throw new UsageError(`ID must be ${SECRET_ID_RULE}`);
  const secret = randomSecret(id);
  return { isDone: true, lines: [secret], data: { secret }, note: ROTATION_NOTE };
}
