/**
 * The Idempotency-Key header (contract, "Key"; draft-ietf-httpapi-idempotency-key-header, 2.1):
 * bare, or as a structured-field string (RFC 9651, 3.3.3). Both forms of one key are one key.
 */
import { identityRule, isIdentity, PURPOSE_MAX_CHARACTERS } from '../../otp/policy/policy.ts';
import { POLICY_BOUNDS } from '../../otp/policy/policy.ts';
import type { Policies } from '../../otp/policy/policy.ts';
import type { FieldError } from '../response.ts';

const KEY_MAX_CHARACTERS = 255;
const FIELD = 'Idempotency-Key';

const MALFORMED: FieldError = Object.freeze({
  field: FIELD,
  message: `must be 1 to ${KEY_MAX_CHARACTERS} printable ASCII characters,`
    + ' bare or as a quoted string',
});
const MISSING: FieldError = Object.freeze({ field: FIELD, message: 'is required' });
const REPEATED: FieldError = Object.freeze({ field: FIELD, message: 'must be sent once' });

/** Parameters after a structured-field string (RFC 9651, 3.1.2); they are ignored. */
const PARAMETERS =
  /^(?:; *[a-z*][a-z0-9_.*-]*(?:=(?:"(?:[ !#-[\]-~]|\\["\\])*"|[A-Za-z0-9?@:*/+=._%-]+))?)*$/;

/**
 * The key of a request.
 *
 * @param values the values of all Idempotency-Key lines of the header section, trailers left out
 * @returns the decoded key, or what is wrong with it
 */
export function requireIdempotencyKey(values: readonly string[]): string | FieldError {
  return parseIdempotencyKey(values) ?? MISSING;
}

/** As `requiredKeyOf`, but null when the header is absent. */
export function parseIdempotencyKey(values: readonly string[]): string | FieldError | null {
  if (values.length === 0) return null;
  if (values.length > 1) return REPEATED;
  const value = values[0] as string;
  const key = value.startsWith('"') ? decodeString(value) : value;
  if (key === null || key.length === 0 || key.length > KEY_MAX_CHARACTERS) return MALFORMED;
  return isPrintable(key) ? key : MALFORMED;
}

/** The content of a structured-field string, or null when it is not one. */
function decodeString(text: string): string | null {
  let key = '';
  let at = 1;
  for (; at < text.length && text[at] !== '"'; at += 1) {
    if (text[at] === '\\') {
      at += 1;
      if (text[at] !== '"' && text[at] !== '\\') return null;
    }
    key += text[at];
  }
  if (at >= text.length) return null;
  const rest = text.slice(at + 1);
  return rest === '' || PARAMETERS.test(rest) ? key : null;
}

/** Printable ASCII: %x20-7E, which excludes tabs, controls and everything above. */
function isPrintable(text: string): boolean {
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    if (unit < 0x20 || unit > 0x7e) return false;
  }
  return true;
}

const USER_ID_MAX_CHARACTERS = 255;

/** A field that obeys its rule, or what is wrong with it. */
type Field = string | FieldError;

/** `user_id`: 1 to 255 code points, well-formed, no control character. */
export function parseUserId(value: unknown): Field {
  return isIdentity(value, USER_ID_MAX_CHARACTERS) ? value
    : { field: 'user_id', message: identityRule(USER_ID_MAX_CHARACTERS) };
}

/** `purpose`: 1 to 100 code points, well-formed, no control character, and one that is allowed. */
export function parsePurpose(value: unknown, policies: Policies): Field {
  if (!isIdentity(value, PURPOSE_MAX_CHARACTERS)) {
    return { field: 'purpose', message: identityRule(PURPOSE_MAX_CHARACTERS) };
  }
  return policies.allows(value) ? value
    : { field: 'purpose', message: 'must be one of the purposes that are allowed' };
}

/**
 * `code`: a string of ASCII digits, as many as a policy may ask for. Whether they are as many as
 * the pair's code has is seen when that is known: it keeps its length when the policy changes.
 *
 * @param digits the code length in force for the purpose, for the message
 */
export function parseCode(value: unknown, digits: number): Field {
  return isDigits(value) ? value : codeError(digits);
}

/** A code that has not so many digits. */
export function codeError(digits: number): FieldError {
  return { field: 'code', message: `must be a string of ${digits} digits` };
}

function isDigits(value: unknown): value is string {
  if (typeof value !== 'string') return false;
  const { min, max } = POLICY_BOUNDS.codeDigits;
  if (value.length < min || value.length > max) return false;
  for (let at = 0; at < value.length; at += 1) {
    const unit = value.charCodeAt(at);
    if (unit < 0x30 || unit > 0x39) return false;
  }
  return true;
}
