/** The settings of the webhook channel, and the signature of a webhook. */
import { createHmac, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parseEndpointUrl } from './http-client.ts';

export type WebhookSettings = Readonly<{
  url: URL;
  /** The current secret first, then the previous one, if any. */
  secrets: readonly Buffer[];
  /** A PEM file: the CA certificates that replace those of Node.js. */
  caFile?: string | null;
}>;

/** The variables of the channel; undefined when not set. */
export type WebhookValues = Readonly<{
  url: string | undefined;
  secrets: string | undefined;
  /** `1` allows http to any host, for a receiver on a private network. */
  allowHttp: string | undefined;
  caFile: string | undefined;
}>;

/**
 * Reads the file of WEBHOOK_CA to check it.
 * @returns the settings, or every error with its variable and no value
 */
export function parseWebhookSettings(
  values: WebhookValues,
): { settings: WebhookSettings } | { errors: string[] } {
  const { caFile = null } = values;
  const errors: string[] = [];
  const url = readUrl(values, errors);
  const secrets = readSecrets(values.secrets, errors);
  if (values.allowHttp !== undefined && !/^[01]$/.test(values.allowHttp)) {
    errors.push('WEBHOOK_ALLOW_HTTP must be 0 or 1');
  }
  if (caFile !== null && url?.protocol === 'http:') {
    errors.push('WEBHOOK_CA must not be set, because WEBHOOK_URL does not use https');
  } else if (caFile !== null) readCaFile('WEBHOOK_CA', caFile, errors);
  if (url === null || secrets === null || errors.length > 0) return { errors };
  return { settings: Object.freeze({ url, secrets, caFile }) };
}

function readUrl({ url, allowHttp }: WebhookValues, errors: string[]): URL | null {
  const parsed = url === undefined ? { error: 'must be set' }
    : parseEndpointUrl(url, allowHttp === '1');
  if ('url' in parsed) return parsed.url;
  errors.push(`WEBHOOK_URL ${parsed.error}`);
  return null;
}

function readSecrets(text: string | undefined, errors: string[]): readonly Buffer[] | null {
  if (text === undefined) {
    errors.push('WEBHOOK_SECRETS must be set (whsec_ and the base64 of 32 random bytes)');
    return null;
  }
  const parsed = parseWebhookSecrets(text);
  if ('secrets' in parsed) return parsed.secrets;
  errors.push(...parsed.errors.map((error) => `WEBHOOK_SECRETS: ${error}`));
  return null;
}

/** The PEM text of CA certificates; null after an error. */
export function readCaFile(variable: string, path: string, errors: string[]): string | null {
  try {
    const text = readFileSync(path, 'utf8');
    if (isCertificate(text)) return text;
    // Node.js would accept such a file as an empty list of CA certificates and trust no server.
    errors.push(`${variable} names a file without a PEM certificate: ${path}`);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    errors.push(`${variable} names a file that cannot be read (${code}): ${path}`);
  }
  return null;
}

function isCertificate(text: string): boolean {
  try {
    new X509Certificate(text);
    return true;
  } catch {
    return false;
  }
}

const PREFIX = 'whsec_';

/** Standard Webhooks, "Signature scheme": 24 to 64 bytes. */
const SECRET_MIN_BYTES = 24;
const SECRET_MAX_BYTES = 64;

/** The current secret, and the previous one until every receiver has the current one. */
const SECRETS_MAX = 2;

/**
 * Reads `whsec_base64,whsec_base64`, the current secret first.
 * @returns the secrets, or every error without quoting a secret
 */
export function parseWebhookSecrets(
  text: string,
): { secrets: readonly Buffer[] } | { errors: string[] } {
  const secrets: Buffer[] = [];
  const errors: string[] = [];
  text.split(',').forEach((entry, index) => {
    const encoded = entry.trim();
    const error = findError(encoded);
    if (error !== null) errors.push(`entry ${index + 1} ${error}`);
    else secrets.push(decode(encoded));
  });
  if (secrets.length > SECRETS_MAX) errors.push(`has more than ${SECRETS_MAX} secrets`);
  const different = new Set(secrets.map((secret) => secret.toString('base64')));
  if (different.size < secrets.length) errors.push('contains a secret twice');
  return errors.length > 0 ? { errors } : { secrets: Object.freeze(secrets) };
}

function decode(encoded: string): Buffer {
  return Buffer.from(encoded.slice(PREFIX.length), 'base64');
}

function findError(encoded: string): string | null {
  if (!encoded.startsWith(PREFIX)) return `must begin with ${PREFIX}`;
  const key = decode(encoded);
  const again = `${PREFIX}${key.toString('base64')}`;
  if (again.replace(/=+$/, '') !== encoded.replace(/=+$/, '')) return 'is not base64';
  if (key.length < SECRET_MIN_BYTES || key.length > SECRET_MAX_BYTES) {
    return `must have ${SECRET_MIN_BYTES} to ${SECRET_MAX_BYTES} bytes`;
  }
  // 24 random bytes have about 23 distinct values and 64 about 57; a typed sample has a few.
  if (new Set(key).size < key.length / 2) return 'is a sample, not a random secret';
  return null;
}

/**
 * Standard Webhooks: `v1,` and the base64 of HMAC-SHA-256 over `id.timestamp.body`, once per
 * secret, separated by spaces.
 * @param id contains no dot
 * @param timestamp whole seconds since the epoch, as sent
 * @param body byte for byte as sent
 */
export function signWebhook(
  secrets: readonly Buffer[],
  id: string,
  timestamp: string,
  body: string,
): string {
  return secrets
    .map((key) => createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64'))
    .map((signature) => `v1,${signature}`)
    .join(' ');
}
