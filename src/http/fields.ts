/** The rules of the single fields of a body (contract, "Identity" and "POST /otp/verify"). */
import { POLICY_BOUNDS } from '../otp/policy.ts';
import type { Policies } from '../otp/policy.ts';
import type { FieldFault } from './answer.ts';

const USER_ID_MAX_CHARACTERS = 255;
const PURPOSE_MAX_CHARACTERS = 100;

/** A field that obeys its rule, or what is wrong with it. */
export type Field = string | FieldFault;

/** `user_id`: 1 to 255 code points, well-formed, no control character. */
export function userIdOf(value: unknown): Field {
  return isIdentity(value, USER_ID_MAX_CHARACTERS) ? value : {
    field: 'user_id',
    message: `must be a string of 1 to ${USER_ID_MAX_CHARACTERS} characters`
      + ' without control characters',
  };
}

/** `purpose`: 1 to 100 code points, well-formed, no control character, and one that is allowed. */
export function purposeOf(value: unknown, policies: Policies): Field {
  if (!isIdentity(value, PURPOSE_MAX_CHARACTERS)) {
    return {
      field: 'purpose',
      message: `must be a string of 1 to ${PURPOSE_MAX_CHARACTERS} characters`
        + ' without control characters',
    };
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
export function codeOf(value: unknown, digits: number): Field {
  return isDigits(value) ? value : codeFault(digits);
}

/** A code that has not so many digits. */
export function codeFault(digits: number): FieldFault {
  return { field: 'code', message: `must be a string of ${digits} digits` };
}

function isIdentity(value: unknown, maxCharacters: number): value is string {
  if (typeof value !== 'string' || value.length === 0) return false;
  for (let at = 0; at < value.length; at += 1) {
    if (isControl(value.charCodeAt(at))) return false;
  }
  // Lone surrogates are all stored as one replacement character: users would collide.
  if (!value.isWellFormed()) return false;
  return value.length <= maxCharacters || [...value].length <= maxCharacters;
}

/** Unicode category Cc: C0, DEL and C1. */
function isControl(unit: number): boolean {
  return unit < 0x20 || (unit >= 0x7f && unit <= 0x9f);
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
