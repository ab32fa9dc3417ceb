/** What can name a user or a purpose (contract, "Identity"). */
/** The longest purpose, in code points. */
export const PURPOSE_MAX_CHARACTERS = 100;

/** What a text must be to name one, as the end of a sentence about it. */
export function identityRule(maxCharacters: number): string {
  return `must be a string of 1 to ${maxCharacters} characters without control characters`;
}

/**
 * Whether a value is a text of 1 to so many code points, well-formed, without a control character.
 */
export function isIdentity(value: unknown, maxCharacters: number): value is string {
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
