/** `otpd key new`: makes a key for a caller. It is printed once, and kept nowhere. */
import { UsageError } from './otp/commands/report.ts';
import type { Report } from './otp/commands/report.ts';
import { nameFault, newKey, parseScopes, SCOPES } from './http/api-keys.ts';

/** What most callers do. */
const USUAL_SCOPES = 'request+verify+read';

/**
 * Makes a key. It needs no database and no configuration.
 *
 * @param given `new NAME [SCOPES]`
 * @throws UsageError when it cannot be made of these
 */
export function makeKey(given: readonly string[]): Report {
  const [verb, name, scopesText = USUAL_SCOPES, ...rest] = given;
  if (verb !== 'new' || name === undefined || rest.length > 0) {
    throw new UsageError('key takes: new NAME [SCOPES]');
  }
  const wanted = nameFault(name);
  if (wanted !== null) throw new UsageError(`NAME must be ${wanted}`);
  const scopes = parseScopes(scopesText);
  if (scopes === null) {
    throw new UsageError(`SCOPES must be out of ${SCOPES.join(', ')}, joined by +`);
  }
  const { key, entry } = newKey({ name, scopes });
  const lines = [`key: ${key}`, `API_KEYS entry: ${entry}`];
  return { isDone: true, lines, data: { name, scopes, key, entry } };
}
