/** Who calls, and whether they may (RFC 6750, 2.1 and 3; RFC 9110, 11.6.2). */
import { failure } from './answer.ts';
import type { Answer } from './answer.ts';
import type { Caller, Callers, Scope } from './api-keys.ts';

const CHALLENGE = 'WWW-Authenticate';

const NO_KEY: Answer = Object.freeze(failure('unauthorized', null, [CHALLENGE, 'Bearer']));
const UNKNOWN_KEY: Answer = Object.freeze(
  failure('unauthorized', null, [CHALLENGE, 'Bearer error="invalid_token"']));
const NO_SCOPE: Answer = Object.freeze(
  failure('forbidden', null, [CHALLENGE, 'Bearer error="insufficient_scope"']));

/** The scheme in any letter case, spaces, a b64token. */
const CREDENTIALS = /^bearer +([A-Za-z0-9._~+/-]+=*)$/i;

/**
 * Finds the caller of a request.
 *
 * @param lines the values of all Authorization lines of the header section
 * @param scopes one of them is enough
 * @returns the caller; or 401 without a key that is known, 403 when it is not good for this
 */
export function authorize(
  callers: Callers,
  lines: readonly string[],
  scopes: readonly Scope[],
): Caller | Answer {
  const [line] = lines;
  const key = line === undefined || lines.length > 1 ? null : bearerKeyOf(line);
  if (key === null) return NO_KEY;
  const caller = callers.find(key);
  if (caller === null) return UNKNOWN_KEY;
  return scopes.some((scope) => caller.scopes.includes(scope)) ? caller : NO_SCOPE;
}

/** The key in an Authorization field, or null when there is none. */
export function bearerKeyOf(line: string): string | null {
  return CREDENTIALS.exec(line)?.[1] ?? null;
}
