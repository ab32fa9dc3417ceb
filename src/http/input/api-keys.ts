/** API keys: creating a key, parsing the configured digests, and authorizing a request. */
import { hash, timingSafeEqual } from 'node:crypto';
import { randomKey } from '../../otp/crypto/random.ts';
import { errorResponse } from '../response.ts';
import type { HttpResponse } from '../response.ts';

export const SCOPES = Object.freeze(['request', 'verify', 'read', 'admin'] as const);

export type Scope = (typeof SCOPES)[number];

export type ApiClient = Readonly<{ name: string; scopes: readonly Scope[] }>;

/** The configured API clients. */
export type ApiKeys = Readonly<{
  /** The owner of a key, or null; takes the same time for every key. */
  find: (key: string) => ApiClient | null;
}>;

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

export function newKey({ name, scopes }: ApiClient): NewKey {
  const key = `otpd_${randomKey(KEY_BYTES).toString('base64url')}`;
  return { key, entry: `${name}:${scopes.join('+')}:${digestOf(key).toString('hex')}` };
}

type Entry = Readonly<{ apiClient: ApiClient; digest: Buffer }>;

/** Parses `name:scopes:sha256,name:scopes:sha256`. Errors never quote the text. */
export function parseApiKeys(text: string): { apiKeys: ApiKeys; errors: string[] } {
  const entries: Entry[] = [];
  const errors: string[] = [];
  text.split(',').forEach((part, index) => {
    const entry = parseEntry(part.trim(), entries);
    if ('digest' in entry) entries.push(entry);
    else errors.push(...entry.errors.map((error) => `entry ${index + 1} ${error}`));
  });
  return { apiKeys: Object.freeze({ find: (key: string) => findClient(entries, key) }), errors };
}

function parseEntry(text: string, earlier: readonly Entry[]): Entry | { errors: string[] } {
  const [name = '', scopesText = '', digestText = '', ...rest] = text.split(':');
  if (digestText === '' || rest.length > 0) return { errors: ['must be name:scopes:sha256'] };
  const errors: string[] = [];
  const rule = nameError(name);
  if (rule !== null) errors.push(`must have a name of ${rule}`);
  const scopes = parseScopes(scopesText);
  if (scopes === null) errors.push(`must have scopes out of ${SCOPES.join(', ')}, joined by +`);
  if (!DIGEST.test(digestText)) errors.push('must have the SHA-256 of a key, in 64 hex digits');
  const digest = Buffer.from(digestText, 'hex');
  if (earlier.some(({ apiClient }) => apiClient.name === name)) {
    errors.push('has the name of another');
  }
  if (earlier.some((other) => other.digest.equals(digest))) errors.push('has the key of another');
  if (scopes === null || errors.length > 0) return { errors };
  return { apiClient: Object.freeze({ name, scopes }), digest };
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
/** The API key lacks the scope that the operation needs. */
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
