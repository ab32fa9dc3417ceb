/** The rules of the single fields of a body (contract, "Identity" and "POST /otp/verify"). */
import { identityRule, isIdentity, PURPOSE_MAX_CHARACTERS } from '../otp/identity.ts';
import { POLICY_BOUNDS } from '../otp/policy.ts';
import type { Policies } from '../otp/policy.ts';
import type { FieldFault } from './answer.ts';

const USER_ID_MAX_CHARACTERS = 255;

/** A field that obeys its rule, or what is wrong with it. */
export type Field = string | FieldFault;

/** `user_id`: 1 to 255 code points, well-formed, no control character. */
export function userIdOf(value: unknown): Field {
  return isIdentity(value, USER_ID_MAX_CHARACTERS) ? value
    : { field: 'user_id', message: identityRule(USER_ID_MAX_CHARACTERS) };
}

/** `purpose`: 1 to 100 code points, well-formed, no control character, and one that is allowed. */
export function purposeOf(value: unknown, policies: Policies): Field {
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
export function codeOf(value: unknown, digits: number): Field {
  return isDigits(value) ? value : codeFault(digits);
}

/** A code that has not so many digits. */
export function codeFault(digits: number): FieldFault {
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
