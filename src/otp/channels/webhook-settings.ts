/** The settings of the channel `webhook`, read from their variables. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parseEndpointUrl } from './endpoint-url.ts';
import { parseWebhookSecrets } from './webhook-secrets.ts';

/** Where webhooks go, and what signs them. */
export type WebhookSettings = Readonly<{
  url: URL;
  /** The current secret, then the one before it, if any. */
  secrets: readonly Buffer[];
  /** A PEM file with the authorities that are trusted in place of Node's. */
  caFile?: string | null;
}>;

/** The variables of the channel; undefined: not set. */
export type WebhookValues = Readonly<{
  /** WEBHOOK_URL */
  url: string | undefined;
  /** WEBHOOK_SECRETS */
  secrets: string | undefined;
  /** WEBHOOK_ALLOW_HTTP: `1` allows http to any host, for a receiver on a private network. */
  allowHttp: string | undefined;
  /** WEBHOOK_CA */
  caFile: string | undefined;
}>;

/**
 * Makes the settings. Looks into the file of WEBHOOK_CA.
 *
 * @returns the settings, or every fault, each with the name of its variable and no value of it
 */
export function parseWebhookSettings(
  values: WebhookValues,
): { settings: WebhookSettings } | { faults: string[] } {
  const { caFile = null } = values;
  const faults: string[] = [];
  const url = readUrl(values, faults);
  const secrets = readSecrets(values.secrets, faults);
  if (values.allowHttp !== undefined && !/^[01]$/.test(values.allowHttp)) {
    faults.push('WEBHOOK_ALLOW_HTTP must be 0 or 1');
  }
  const caFault = caFile === null ? null : findCaFault(caFile, url);
  if (caFault !== null) faults.push(`WEBHOOK_CA ${caFault}`);
  if (url === null || secrets === null || faults.length > 0) return { faults };
  return { settings: Object.freeze({ url, secrets, caFile }) };
}

function readUrl({ url, allowHttp }: WebhookValues, faults: string[]): URL | null {
  const parsed = url === undefined ? { fault: 'must be set' }
    : parseEndpointUrl(url, allowHttp === '1');
  if ('url' in parsed) return parsed.url;
  faults.push(`WEBHOOK_URL ${parsed.fault}`);
  return null;
}

function readSecrets(text: string | undefined, faults: string[]): readonly Buffer[] | null {
  if (text === undefined) {
    faults.push('WEBHOOK_SECRETS must be set (whsec_ and the base64 of 32 random bytes)');
    return null;
  }
  const parsed = parseWebhookSecrets(text);
  if ('secrets' in parsed) return parsed.secrets;
  faults.push(...parsed.faults.map((fault) => `WEBHOOK_SECRETS: ${fault}`));
  return null;
}

function findCaFault(path: string, url: URL | null): string | null {
  if (url?.protocol === 'http:') return 'has no use, for WEBHOOK_URL is not https';
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    return `names a file that cannot be read (${(error as NodeJS.ErrnoException).code})`;
  }
  try {
    new X509Certificate(text);
    return null;
  } catch {
    // Node itself would take such a file for a list of no authorities, and trust nobody.
    return 'names a file that holds no certificate in PEM form';
  }
}
