/**
 * Requests of browsers (docs/api.md, "Browsers"): the pages that may call, and the names by which
 * the admin listener may be addressed. A page whose own name was pointed to an address of otpd (DNS
 * rebinding) gets nothing, because its browser names the page in Origin or in Host.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { errorResponse, NO_HEADERS } from '../response.ts';
import type { HttpResponse } from '../response.ts';
import { entriesOf } from './client-ip.ts';
import { authorityOf } from './request-head.ts';
import type { RequestHeaders } from './request-head.ts';

export type BrowserRules = Readonly<{
  /** The origins that may call, compared as bytes. */
  origins: ReadonlySet<string>;
  /** The names that are allowed besides `localhost` and IP addresses; null allows every name. */
  hosts: ReadonlySet<string> | null;
}>;

const NOT_ALLOWED: HttpResponse = Object.freeze(errorResponse('origin_not_allowed', {
  message: 'call otpd from a server, or list the Origin of the page in ALLOWED_ORIGINS',
}));

const MISDIRECTED: HttpResponse = Object.freeze(errorResponse('misdirected_request', {
  message: 'the host must be an IP address, localhost or a name in ADMIN_ALLOWED_HOSTS',
}));

/** The answer to OPTIONS from an allowed origin (Fetch Standard, "CORS protocol"). */
const PREFLIGHT: HttpResponse = Object.freeze({
  code: 'preflight',
  body: '',
  headers: [
    'Access-Control-Allow-Methods', 'GET, HEAD, POST, DELETE',
    'Access-Control-Allow-Headers', 'Content-Type, Idempotency-Key, Authorization, Otp-Device',
    'Access-Control-Max-Age', '600',
  ],
  close: false,
});

const EXPOSED =
  'Retry-After, RateLimit, RateLimit-Policy, Idempotent-Replayed, X-Request-Id, Otp-Device';

/**
 * 421 for a name that the listener does not have, 403 for an origin that may not call, 204 for an
 * OPTIONS from one that may; null for every other request.
 */
export function browserResponse(
  { method, url }: Readonly<{ method?: string | undefined; url?: string | undefined }>,
  headers: RequestHeaders,
  { origins, hosts }: BrowserRules,
): HttpResponse | null {
  const { origin } = headers;
  if (hosts !== null) {
    const authority = authorityOf(url ?? '') ?? headers.hosts[0] ?? '';
    if (!isAllowedAuthority(authority, hosts)) return MISDIRECTED;
  }
  if (origin === null) return null;
  if (!origins.has(origin)) return NOT_ALLOWED;
  return method === 'OPTIONS' ? PREFLIGHT : null;
}

/** The headers by which a page of an allowed origin may read the response. */
export function corsHeaders(
  { origin }: RequestHeaders,
  { origins }: BrowserRules,
): readonly string[] {
  if (origin === null || !origins.has(origin)) return NO_HEADERS;
  return ['Access-Control-Allow-Origin', origin, 'Vary', 'Origin',
    'Access-Control-Expose-Headers', EXPOSED];
}

function isAllowedAuthority(authority: string, hosts: ReadonlySet<string>): boolean {
  if (authority.startsWith('[')) return isIPv6(authority.slice(1, authority.indexOf(']')));
  const host = authority.replace(/\.?(:[0-9]*)?$/, '').toLowerCase();
  return isIPv4(host) || host === 'localhost' || hosts.has(host);
}

/** Parses origins separated by commas or spaces, as browsers write them (RFC 6454, 6.2). */
export function parseAllowedOrigins(text: string): { origins: Set<string>; errors: string[] } {
  const origins = new Set<string>();
  const errors: string[] = [];
  for (const entry of entriesOf(text)) {
    if (isOrigin(entry)) origins.add(entry);
    else errors.push(`"${entry}" is not an origin${adviceFor(entry)}`);
  }
  return { origins, errors };
}

/** Scheme and host of any scheme; those of the web in the one form that a browser sends. */
function isOrigin(entry: string): boolean {
  const [, scheme, host] = /^([a-z][a-z0-9+.-]*):\/\/([!-~]+)$/.exec(entry) ?? [];
  if (host === undefined || /[/?#@*\\]/.test(host)) return false;
  return (scheme !== 'http' && scheme !== 'https') || serialized(entry) === entry;
}

function adviceFor(entry: string): string {
  const origin = serialized(entry);
  return origin === 'null' ? ' such as https://app.example.com' : `; write ${origin}`;
}

/** The origin of a URL of the web; `null` for anything else. */
function serialized(entry: string): string {
  return URL.canParse(entry) && !entry.includes('*') ? new URL(entry).origin : 'null';
}

const HOST = /^[\w-]+(?:\.[\w-]+)*$/;

/** Parses host names separated by commas or spaces, in any letter case, with or without a dot. */
export function parseAllowedHosts(text: string): { hosts: Set<string>; errors: string[] } {
  const hosts = new Set<string>();
  const errors: string[] = [];
  for (const entry of entriesOf(text)) {
    const host = entry.replace(/\.$/, '').toLowerCase();
    if (HOST.test(host)) hosts.add(host);
    else errors.push(`"${entry}" is not a host name such as otpd.internal, without a port`);
  }
  return { hosts, errors };
}
