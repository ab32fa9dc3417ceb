/** API keys: creating a key, parsing the configured digests, and authorizing a request. */
import { hash, timingSafeEqual } from 'node:crypto';
import { randomKey } from '../../otp/crypto/random.ts';
import { parseLastDay } from '../../otp/outcomes.ts';
import { errorResponse } from '../response.ts';
import type { HttpResponse } from '../response.ts';

export const SCOPES = Object.freeze(['request', 'verify', 'read', 'admin', 'to'] as const);

export type Scope = (typeof SCOPES)[number];

export type ApiClient = Readonly<{ name: string; scopes: readonly Scope[] } & Restrictions>;

type Restrictions = Readonly<{
  /** The purposes that the key may use; null: every purpose. */
  purposes: ReadonlySet<string> | null;
  /** Microseconds since the epoch at which the key ends; null: never. */
  endsAt: number | null;
}>;

/** The configured API clients. */
export type ApiKeys = Readonly<{
  /** The owner of a key, or null; takes the same time for every key. */
  find: (key: string) => ApiClient | null;
}>;

/** The API clients as they were parsed: `find` does not look at the end of a key. */
export type ParsedApiKeys = ApiKeys & Readonly<{
  clients: readonly ApiClient[];
  /** The entries by name, to find out which have changed. */
  entries: ReadonlyMap<string, string>;
}>;

/** The names of the API clients that a reload has added, removed or changed. */
type ApiKeyChanges = Readonly<{
  added: readonly string[];
  removed: readonly string[];
  changed: readonly string[];
}>;

/** The API clients in force, which a reload replaces. A key that has ended is unknown. */
export class LiveApiKeys implements ApiKeys {
  readonly #now: () => number;
  #current: ParsedApiKeys;

  /** @param now the clock of the machine, as for certificates, in microseconds */
  constructor(current: ParsedApiKeys, now: () => number) {
    this.#current = current;
    this.#now = now;
  }

  find(key: string): ApiClient | null {
    const apiClient = this.#current.find(key);
    const hasEnded = apiClient !== null && apiClient.endsAt !== null
      && this.#now() >= apiClient.endsAt;
    return hasEnded ? null : apiClient;
  }

  replace(next: ParsedApiKeys): ApiKeyChanges {
    const before = this.#current.entries;
    this.#current = next;
    const names = [...next.entries.keys()];
    return {
      added: names.filter((name) => !before.has(name)),
      removed: [...before.keys()].filter((name) => !next.entries.has(name)),
      changed: names.filter((name) =>
        before.has(name) && before.get(name) !== next.entries.get(name)),
    };
  }
}

/** A new key, which is shown once, and its entry of API_KEYS, which is kept. */
type NewKey = Readonly<{ key: string; entry: string }>;

const NAME = /^[A-Za-z0-9_-]{1,32}$/;
const DIGEST = /^[0-9A-Fa-f]{64}$/;
const KEY_BYTES = 32;

/** A fast hash is enough, because 256 random bits cannot be guessed. */
function digestOf(key: string): Buffer {
  return hash('sha256', key, 'buffer');
}

/** The rule for names when this name breaks it, otherwise null. */
export function nameError(name: string): string | null {
  return NAME.test(name) ? null : '1 to 32 letters, digits, - or _';
}

/** Parses distinct scopes joined by `+`; null when the text is malformed. */
export function parseScopes(text: string): readonly Scope[] | null {
  const scopes = text.split('+');
  const isValid = scopes.every((scope, index) => isScope(scope) && scopes.indexOf(scope) === index);
  return isValid ? scopes as Scope[] : null;
}

function isScope(text: string): text is Scope {
  return (SCOPES as readonly string[]).includes(text);
}

/** @param restrictions as in an entry */
export function newKey(
  { name, scopes }: Pick<ApiClient, 'name' | 'scopes'>,
  restrictions: readonly string[] = [],
): NewKey {
  const key = `otpd_${randomKey(KEY_BYTES).toString('base64url')}`;
  const digest = digestOf(key).toString('hex');
  return { key, entry: [name, scopes.join('+'), digest, ...restrictions].join(':') };
}

export const RESTRICTIONS_RULE = 'purposes=PURPOSE+PURPOSE and not-after=YYYY-MM-DD, each once';

/**
 * Parses `purposes=login+pay` and `not-after=2027-01-31`, in any order; null when one is malformed.
 * Purposes are percent-encoded. The day is the last one of the key, in UTC.
 */
export function parseRestrictions(parts: readonly string[]): Restrictions | null {
  let purposes: ReadonlySet<string> | null = null;
  let endsAt: number | null = null;
  for (const part of parts) {
    const [, name, value = ''] = /^(purposes|not-after)=(.*)$/.exec(part) ?? [];
    if (name === 'purposes' && purposes === null) purposes = parsePurposes(value);
    else if (name === 'not-after' && endsAt === null) endsAt = parseLastDay(value);
    else return null;
  }
  const isComplete = Number(purposes !== null) + Number(endsAt !== null) === parts.length;
  return isComplete ? Object.freeze({ purposes, endsAt }) : null;
}

function parsePurposes(text: string): ReadonlySet<string> | null {
  try {
    const purposes = text.split('+').map(decodeURIComponent);
    const isValid = purposes.every((purpose) => /^\P{Cc}{1,100}$/u.test(purpose));
    return isValid && new Set(purposes).size === purposes.length ? new Set(purposes) : null;
  } catch {
    return null;
  }
}

/** Whether an API client may use a purpose; null: every purpose. */
export function allowsPurpose(purposes: ReadonlySet<string> | null, purpose: string): boolean {
  return purposes === null || purposes.has(purpose);
}

type Entry = Readonly<{ apiClient: ApiClient; digest: Buffer; text: string }>;

/**
 * Parses `name:scopes:sha256` entries, separated by commas or line ends. An empty line, and one
 * that begins with #, is ignored. Errors never quote the text.
 */
export function parseApiKeys(text: string): { apiKeys: ParsedApiKeys; errors: string[] } {
  const entries: Entry[] = [];
  const errors: string[] = [];
  const lines = text.split(/\r?\n/).filter((line) => !/^\s*(#|$)/.test(line));
  const parts = lines.flatMap((line) => line.split(','));
  (parts.length === 0 ? [''] : parts).forEach((part, index) => {
    const entry = parseEntry(part.trim(), entries);
    if ('digest' in entry) entries.push(entry);
    else errors.push(...entry.errors.map((error) => `entry ${index + 1} ${error}`));
  });
  const apiKeys = Object.freeze({
    find: (key: string) => findClient(entries, key),
    clients: entries.map(({ apiClient }) => apiClient),
    entries: new Map(entries.map(({ apiClient, text: entry }) => [apiClient.name, entry])),
  });
  return { apiKeys, errors };
}

function parseEntry(text: string, earlier: readonly Entry[]): Entry | { errors: string[] } {
  const [name = '', scopesText = '', digestText = '', ...rest] = text.split(':');
  if (digestText === '') return { errors: ['must be name:scopes:sha256'] };
  const errors: string[] = [];
  const rule = nameError(name);
  if (rule !== null) errors.push(`must have a name of ${rule}`);
  const scopes = parseScopes(scopesText);
  if (scopes === null) errors.push(`must have scopes out of ${SCOPES.join(', ')}, joined by +`);
  if (!DIGEST.test(digestText)) errors.push('must have the SHA-256 of a key, in 64 hex digits');
  const restrictions = parseRestrictions(rest);
  if (restrictions === null) {
    errors.push(`may have after the SHA-256 only ${RESTRICTIONS_RULE}`);
  }
  const digest = Buffer.from(digestText, 'hex');
  if (earlier.some(({ apiClient }) => apiClient.name === name)) {
    errors.push('has the name of another');
  }
  if (earlier.some((other) => other.digest.equals(digest))) errors.push('has the key of another');
  if (scopes === null || errors.length > 0) return { errors };
  return { apiClient: Object.freeze({ name, scopes, ...restrictions! }), digest, text };
}

/** Compares with every entry even after a match, so that the time reveals nothing. */
function findClient(entries: readonly Entry[], key: string): ApiClient | null {
  const digest = digestOf(key);
  let found: ApiClient | null = null;
  for (const entry of entries) {
    if (timingSafeEqual(entry.digest, digest)) found = entry.apiClient;
  }
  return found;
}

const CHALLENGE = 'WWW-Authenticate';

const NO_KEY: HttpResponse = Object.freeze(
  errorResponse('unauthorized', null, [CHALLENGE, 'Bearer']),
);
const UNKNOWN_KEY: HttpResponse = Object.freeze(
  errorResponse('unauthorized', null, [CHALLENGE, 'Bearer error="invalid_token"']));
/** The API key lacks the scope or the purpose that the operation needs. */
export const NO_SCOPE: HttpResponse = Object.freeze(
  errorResponse('forbidden', null, [CHALLENGE, 'Bearer error="insufficient_scope"']));

/** A scheme in any letter case, spaces and a b64token (RFC 6750, 2.1). */
const CREDENTIALS = /^bearer +([A-Za-z0-9._~+/-]+=*)$/i;

/**
 * Authenticates the API client from all Authorization lines. One of the scopes is enough; 401
 * without a known key, 403 without a scope.
 */
export function authorize(
  apiKeys: ApiKeys,
  lines: readonly string[],
  scopes: readonly Scope[],
): ApiClient | HttpResponse {
  const [line] = lines;
  const key = line === undefined || lines.length > 1 ? null : parseBearerKey(line);
  if (key === null) return NO_KEY;
  const apiClient = apiKeys.find(key);
  if (apiClient === null) return UNKNOWN_KEY;
  return scopes.some((scope) => apiClient.scopes.includes(scope)) ? apiClient : NO_SCOPE;
}

export function parseBearerKey(line: string): string | null {
  return CREDENTIALS.exec(line)?.[1] ?? null;
}
