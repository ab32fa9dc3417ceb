/**
 * Reads the policy file: JSON with the numbers and the label of each purpose, the list of allowed
 * purposes, and the test identities. No error quotes a value.
 */
import {
  identityRule, isIdentity, LABEL_MAX_CHARACTERS, parseLastDay, PURPOSE_MAX_CHARACTERS,
  USER_ID_MAX_CHARACTERS,
} from '../outcomes.ts';
import { findRepeatedMember, suggestion } from './names.ts';
import {
  completePolicy, createPolicies, DEFAULT_DRAFT, POLICY_BOUNDS, WRONG_ATTEMPTS_MIN,
} from './policy.ts';
import type { LimitName, Policies, Policy, PolicyDraft, PolicyNumber } from './policy.ts';
import { NO_TEST_IDENTITIES, overlap, TestIdentities } from './test-identities.ts';
import type { TestIdentity } from './test-identities.ts';
import { ANY_LANGUAGE, isLanguageTag } from '../templates/language-tags.ts';
import type { Labels } from '../templates/language-tags.ts';

/** A member that a policy in the file may set. */
type Member = Readonly<{
  key: PolicyNumber;
  /** The limit that may be set to shadow mode through this member. */
  limit?: LimitName;
  /** Whether null is allowed, for no limit. */
  isOptional?: true;
  /** Whether only the default policy may set the member. */
  isGlobal?: true;
}>;

const MEMBERS: ReadonlyMap<string, Member> = new Map<string, Member>([
  ['code_digits', { key: 'codeDigits' }],
  ['lifetime_seconds', { key: 'lifetimeSeconds' }],
  ['user_limit', { key: 'userLimit', limit: 'user' }],
  ['address_limit', { key: 'addressLimit', limit: 'address' }],
  ['wrong_attempts', { key: 'wrongAttempts' }],
  ['lock_seconds', { key: 'lockSeconds' }],
  ['wrong_attempts_until_unlock', { key: 'wrongAttemptsUntilUnlock', isGlobal: true }],
  ['device_days', { key: 'deviceDays', isOptional: true }],
  ['device_reserve', { key: 'deviceReserve', isGlobal: true }],
  ['devices_limit', { key: 'devicesLimit', limit: 'devices' }],
  ['key_retention_seconds', { key: 'keyRetentionSeconds' }],
  ['net_limit', { key: 'netLimit', limit: 'net48', isOptional: true }],
  ['recipient_limit', { key: 'recipientLimit', limit: 'recipient', isOptional: true }],
  ['user_daily_limit', { key: 'userDailyLimit', limit: 'user_daily', isOptional: true }],
  ['destination_limit', { key: 'destinationLimit', limit: 'destination', isOptional: true }],
  ['destination_digits', { key: 'destinationDigits', isGlobal: true }],
  ['wrong_codes_limit', { key: 'wrongCodesLimit', limit: 'wrong_codes', isOptional: true }],
  ['wrong_codes_net_limit',
    { key: 'wrongCodesNetLimit', limit: 'wrong_codes_net', isOptional: true }],
]);

/** What messages call the purpose. */
const LABEL = 'label';

/** Whether a verification must name its OTP. */
const REQUIRE_OTP_ID = 'require_otp_id';

const POLICY_MEMBERS: readonly string[] = [...MEMBERS.keys(), LABEL, REQUIRE_OTP_ID];
const LIMIT_MEMBERS: readonly string[] = ['limit', 'shadow'];
const TEST_MEMBERS: readonly string[] = ['user', 'user_prefix', 'code', 'purposes', 'until'];
const FILE_MEMBERS: readonly string[] = [
  'default', 'purposes', 'allowed_purposes', 'test_identities',
];

/**
 * Reads `{"default": {…}, "purposes": {"login": {…}}, "allowed_purposes": ["login"]}`; every member
 * is optional. A purpose inherits what it does not set.
 * @returns the policies, or every error with its path and the allowed range
 */
export function parsePolicies(text: string): { policies: Policies } | { errors: string[] } {
  const errors: string[] = [];
  const file = asObject(parseJson(text, errors), 'the file', errors);
  for (const name of Object.keys(file)) {
    if (FILE_MEMBERS.includes(name)) continue;
    errors.push(POLICY_MEMBERS.includes(name)
      ? `${name}: must be a member of default, or of a purpose in purposes`
      : `${name}: ${unknownMember(name, FILE_MEMBERS)}`);
  }
  const fallback = readPolicy(file.default ?? {}, DEFAULT_DRAFT, 'default', errors);
  checkReserve(fallback, errors);
  const allowed = readAllowed(file.allowed_purposes, errors);
  const byPurpose = new Map<string, Policy>();
  const purposes = asObject(file.purposes ?? {}, 'purposes', errors);
  for (const [purpose, value] of Object.entries(purposes)) {
    const draft = readPolicy(value, fallback, `purposes.${purpose}`, errors);
    byPurpose.set(purpose, completePolicy(draft));
    if (allowed?.has(purpose) === false) {
      errors.push(`purposes.${purpose}: must be one of allowed_purposes`);
    }
  }
  const policies = createPolicies(completePolicy(fallback), byPurpose, allowed);
  const tests = readTestIdentities(file.test_identities ?? [], policies, errors);
  return errors.length > 0 ? { errors }
    : { policies: createPolicies(completePolicy(fallback), byPurpose, allowed, tests) };
}

function unknownMember(name: string, known: readonly string[]): string {
  return `unknown member${suggestion(name, known)}`;
}

function checkReserve(
  { wrongAttemptsUntilUnlock, deviceReserve }: PolicyDraft,
  errors: string[],
): void {
  const left = (wrongAttemptsUntilUnlock ?? 0) - (deviceReserve ?? 0);
  if (left >= WRONG_ATTEMPTS_MIN) return;
  errors.push('default.device_reserve: must be smaller than wrong_attempts_until_unlock by at '
    + `least ${WRONG_ATTEMPTS_MIN}`);
}

/** Null when every purpose is allowed. */
function readAllowed(value: unknown, errors: string[]): ReadonlySet<string> | null {
  const purposes = value === undefined ? [] : readPurposes(value, 'allowed_purposes', errors);
  return purposes.length === 0 ? null : new Set(purposes);
}

function readPurposes(value: unknown, path: string, errors: string[]): readonly string[] {
  if (!Array.isArray(value) || value.length === 0) {
    errors.push(`${path}: must be a list of at least one purpose`);
    return [];
  }
  value.forEach((purpose: unknown, index) => {
    if (isIdentity(purpose, PURPOSE_MAX_CHARACTERS)) return;
    errors.push(`${path}[${index}]: ${identityRule(PURPOSE_MAX_CHARACTERS)}`);
  });
  return value;
}

/** Bounds the search that each request makes. */
const TEST_IDENTITIES_MAX = 100;

/** A shorter prefix would make test identities of many users. */
const PREFIX_MIN_CHARACTERS = 4;

/** `[{"user": "+15550100", "code": "123456", "purposes": ["login"], "until": "2026-12-31"}]` */
function readTestIdentities(value: unknown, policies: Policies, errors: string[]): TestIdentities {
  const list: readonly unknown[] = Array.isArray(value) ? value : [];
  if (!Array.isArray(value) || list.length > TEST_IDENTITIES_MAX) {
    errors.push(`test_identities: must be a list of at most ${TEST_IDENTITIES_MAX} objects`);
  }
  const errorsBefore = errors.length;
  const read = list.map((each, index) =>
    readTestIdentity(each, policies, { path: `test_identities[${index}]`, errors }));
  const identities = read.map(({ identity }) => identity);
  if (errors.length > errorsBefore) return NO_TEST_IDENTITIES;
  identities.forEach((identity, index) => {
    const first = identities.findIndex((other) => overlap(identity, other));
    if (first === index) return;
    errors.push(`test_identities[${index}]: must have no user and purpose in common with`
      + ` test_identities[${first}]`);
  });
  return new TestIdentities(identities, read.map(({ code }) => code));
}

function readTestIdentity(
  value: unknown,
  policies: Policies,
  { path, errors }: Location,
): Readonly<{ identity: TestIdentity; code: string }> {
  const { user, user_prefix: prefix, code, purposes: list, until, ...others }
    = asObject(value, path, errors);
  for (const each of Object.keys(others)) {
    errors.push(`${path}.${each}: ${unknownMember(each, TEST_MEMBERS)}`);
  }
  const isPrefix = prefix !== undefined;
  const [name, given] = isPrefix ? ['user_prefix', prefix] : ['user', user];
  if (isPrefix && user !== undefined) {
    errors.push(`${path}: must have either user or user_prefix`);
  } else if (!isIdentity(given, USER_ID_MAX_CHARACTERS)) {
    errors.push(`${path}.${name}: ${identityRule(USER_ID_MAX_CHARACTERS)}`);
  } else if (isPrefix && [...given].length < PREFIX_MIN_CHARACTERS) {
    errors.push(`${path}.${name}: must have at least ${PREFIX_MIN_CHARACTERS} characters`);
  }
  const purposes = readPurposes(list, `${path}.purposes`, errors);
  if (!purposes.every(policies.allows)) {
    errors.push(`${path}.purposes: must be among allowed_purposes`);
  }
  for (const digits of new Set(purposes.map((each) => policies.for(each).codeDigits))) {
    if (typeof code === 'string' && /^[0-9]+$/.test(code) && code.length === digits) continue;
    errors.push(`${path}.code: must be a string of ${digits} digits, as code_digits says`);
  }
  const endsAt = typeof until === 'string' ? parseLastDay(until) : null;
  if (endsAt === null) errors.push(`${path}.until: must be the last day, such as 2026-12-31`);
  const identity = { user: String(given), isPrefix, purposes, endsAt: endsAt ?? 0 };
  return { identity: Object.freeze(identity), code: String(code) };
}

function readPolicy(
  value: unknown,
  base: PolicyDraft,
  path: string,
  errors: string[],
): PolicyDraft {
  const draft: PolicyDraft = { ...base, shadow: new Set(base.shadow) };
  for (const [name, setting] of Object.entries(asObject(value, path, errors))) {
    const member = MEMBERS.get(name);
    if (name === LABEL) draft.labels = readLabels(setting, `${path}.${name}`, errors);
    else if (name === REQUIRE_OTP_ID) {
      draft.requiresOtpId = readBoolean(setting, `${path}.${name}`, errors);
    } else if (member === undefined) {
      errors.push(`${path}.${name}: ${unknownMember(name, POLICY_MEMBERS)}`);
    } else if (member.isGlobal && path !== 'default') {
      errors.push(`${path}.${name}: must be set in default, because all purposes share it`);
    } else readMember(draft, member, setting, { path: `${path}.${name}`, errors });
  }
  return draft;
}

type Location = Readonly<{ path: string; errors: string[] }>;

/** A number, or `{"limit": 3, "shadow": true}` for a limit. */
function readMember(
  draft: PolicyDraft,
  member: Member,
  value: unknown,
  { path, errors }: Location,
): void {
  const { key, limit, isOptional } = member;
  if (limit === undefined || typeof value !== 'object' || value === null) {
    draft[key] = value === null && isOptional ? null : readNumber(key, value, { path, errors });
    if (limit !== undefined) draft.shadow.delete(limit);
    return;
  }
  const { limit: number, shadow = false, ...others } = asObject(value, path, errors);
  for (const name of Object.keys(others)) {
    errors.push(`${path}.${name}: ${unknownMember(name, LIMIT_MEMBERS)}`);
  }
  const isShadow = readBoolean(shadow, `${path}.shadow`, errors);
  draft[key] = readNumber(key, number, { path: `${path}.limit`, errors });
  if (isShadow) draft.shadow.add(limit);
  else draft.shadow.delete(limit);
}

/** A text for all languages, `{"en": "sign-in", "de": "die Anmeldung"}`, or null for none. */
function readLabels(value: unknown, path: string, errors: string[]): Labels {
  if (value === null) return new Map();
  if (typeof value !== 'object' || Array.isArray(value)) {
    return new Map([[ANY_LANGUAGE, readLabel(value, path, errors)]]);
  }
  const labels = new Map<string, string>();
  for (const [language, text] of Object.entries(value)) {
    const tag = language.toLowerCase();
    if (!isLanguageTag(language)) {
      errors.push(`${path}.${language}: must be a language tag such as de or pt-BR`);
    } else if (labels.has(tag)) errors.push(`${path}.${language}: must occur once, in any case`);
    labels.set(tag, readLabel(text, `${path}.${language}`, errors));
  }
  return labels;
}

function readLabel(value: unknown, path: string, errors: string[]): string {
  if (isIdentity(value, LABEL_MAX_CHARACTERS) && value.trim() !== '') return value;
  errors.push(`${path}: ${identityRule(LABEL_MAX_CHARACTERS)}`);
  return '';
}

function readBoolean(value: unknown, path: string, errors: string[]): boolean {
  if (typeof value !== 'boolean') errors.push(`${path}: must be true or false`);
  return value === true;
}

function readNumber(key: PolicyNumber, value: unknown, { path, errors }: Location): number {
  const { min, max } = POLICY_BOUNDS[key];
  const number = Number(value);
  if (Number.isInteger(value) && number >= min && number <= max) return number;
  errors.push(`${path}: must be a whole number from ${min} to ${max}`);
  return min;
}

function parseJson(text: string, errors: string[]): unknown {
  try {
    const value: unknown = JSON.parse(text);
    const repeated = findRepeatedMember(text);
    if (repeated !== null) errors.push(`${repeated}: must occur once`);
    return value;
  } catch (error) {
    errors.push(text.trim() === '' ? 'is empty; {} is the default policy'
      : `is not JSON${whereOf(error as SyntaxError, text)}`);
    return {};
  }
}

/** Not every message of JSON.parse has a position, and some quote the text. */
function whereOf({ message }: SyntaxError, text: string): string {
  const position = /at position (\d+)/.exec(message)?.[1];
  if (position === undefined) return '';
  const lines = text.slice(0, Number(position)).split('\n');
  return ` (line ${lines.length}, column ${lines.at(-1)!.length + 1})`;
}

function asObject(value: unknown, path: string, errors: string[]): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  errors.push(`${path}: must be an object`);
  return {};
}
