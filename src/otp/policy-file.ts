/**
 * The policy file: every number of the contract, globally and per purpose, and which purposes there
 * are, in one JSON file.
 */
import { createPolicies, DEFAULT_POLICY, POLICY_BOUNDS } from './policy.ts';
import type { Policies, Policy } from './policy.ts';

/** The members of a policy in the file, and the number that each of them sets. */
const NAMES: ReadonlyMap<string, keyof Policy> = new Map([
  ['code_digits', 'codeDigits'],
  ['lifetime_seconds', 'lifetimeSeconds'],
  ['user_limit', 'userLimit'],
  ['address_limit', 'addressLimit'],
  ['wrong_attempts', 'wrongAttempts'],
  ['lock_seconds', 'lockSeconds'],
  ['wrong_attempts_until_unlock', 'wrongAttemptsUntilUnlock'],
  ['key_retention_seconds', 'keyRetentionSeconds'],
]);

/** The members of the file. */
const PARTS: readonly string[] = ['default', 'purposes', 'allowed_purposes'];

/** What a purpose must be to be asked for (contract, "Identity"). */
const PURPOSE = /^[^\p{Cc}\p{Cs}]{1,100}$/u;

/**
 * Reads the text of a policy file: `{"default": {…}, "purposes": {"login": {…}},
 * "allowed_purposes": ["login"]}`, all optional. A purpose inherits what it does not set.
 *
 * @returns the policies, or every fault with its path and the allowed range
 */
export function parsePolicies(text: string): { policies: Policies } | { faults: string[] } {
  const faults: string[] = [];
  const file = asObject(parseJson(text, faults), 'the file', faults);
  for (const name of Object.keys(file)) {
    if (!PARTS.includes(name)) faults.push(`${name}: unknown member`);
  }
  const fallback = readPolicy(file.default ?? {}, DEFAULT_POLICY, 'default', faults);
  const allowed = readAllowed(file.allowed_purposes, faults);
  const byPurpose = new Map<string, Policy>();
  const purposes = asObject(file.purposes ?? {}, 'purposes', faults);
  for (const [purpose, value] of Object.entries(purposes)) {
    byPurpose.set(purpose, readPolicy(value, fallback, `purposes.${purpose}`, faults));
    if (allowed?.has(purpose) === false) {
      faults.push(`purposes.${purpose}: must be one of allowed_purposes`);
    }
  }
  return faults.length > 0 ? { faults }
    : { policies: createPolicies(fallback, byPurpose, allowed) };
}

/** The purposes that there are; null: every one that is asked for. */
function readAllowed(value: unknown, faults: string[]): ReadonlySet<string> | null {
  if (value === undefined) return null;
  if (!Array.isArray(value) || value.length === 0) {
    faults.push('allowed_purposes: must be a list of at least one purpose');
    return null;
  }
  value.forEach((purpose: unknown, index) => {
    if (typeof purpose === 'string' && PURPOSE.test(purpose)) return;
    faults.push(`allowed_purposes[${index}]: must be a string of 1 to 100 characters`
      + ' without control characters');
  });
  return new Set(value);
}

function readPolicy(value: unknown, base: Policy, path: string, faults: string[]): Policy {
  const policy: Record<keyof Policy, number> = { ...base };
  for (const [name, number] of Object.entries(asObject(value, path, faults))) {
    const key = NAMES.get(name);
    if (key === undefined) {
      faults.push(`${path}.${name}: unknown member`);
      continue;
    }
    const { min, max } = POLICY_BOUNDS[key];
    if (Number.isInteger(number) && Number(number) >= min && Number(number) <= max) {
      policy[key] = Number(number);
    } else faults.push(`${path}.${name}: must be a whole number from ${min} to ${max}`);
  }
  return Object.freeze(policy);
}

function parseJson(text: string, faults: string[]): unknown {
  try {
    return JSON.parse(text);
  } catch {
    faults.push('is not JSON');
    return {};
  }
}

function asObject(value: unknown, path: string, faults: string[]): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  faults.push(`${path}: must be an object`);
  return {};
}
