/** `otpd key new`: makes a key for a caller. It is printed once, and kept nowhere. */
import { ConfigError } from './config-reader.ts';
import { nameFault, newKey, parseScopes, SCOPES } from './http/api-keys.ts';

/** What most callers do. */
const USUAL_SCOPES = 'request+verify+read';

/**
 * Makes a key.
 *
 * @param parameters `new NAME [SCOPES]`, with `--json` anywhere
 * @returns what to print: two lines, or an object; null when the parameters are not these
 * @throws ConfigError when the name or the scopes cannot be used
 */
export function describeNewKey(parameters: readonly string[]): string | null {
  const isJson = parameters.includes('--json');
  const rest = parameters.filter((parameter) => parameter !== '--json');
  const [verb, name, scopesText = USUAL_SCOPES] = rest;
  if (verb !== 'new' || name === undefined || rest.length > 3) return null;
  if (rest.some((parameter) => parameter.startsWith('-'))) return null;
  const wanted = nameFault(name);
  if (wanted !== null) throw new ConfigError(`NAME must be ${wanted}`);
  const scopes = parseScopes(scopesText);
  if (scopes === null) {
    throw new ConfigError(`SCOPES must be out of ${SCOPES.join(', ')}, joined by +`);
  }
  const { key, entry } = newKey({ name, scopes });
  return isJson ? JSON.stringify({ name, scopes, key, entry })
    : `key: ${key}\nAPI_KEYS entry: ${entry}`;
}
