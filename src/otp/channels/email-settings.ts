/** The settings of the e-mail channel. */
import { isIP } from 'node:net';
import { isLoopbackHost } from './channel.ts';
import { toAscii, toMailAddress } from './recipients.ts';
import { readCaFile } from './webhook-settings.ts';

export type EmailSettings = Readonly<{
  server: MailServer;
  from: SmtpSender;
  /** PEM; null for the CA certificates of Node.js. */
  ca: string | null;
  /** The path of an image for the HTML part; null for none. */
  logoFile: string | null;
}>;

/** A message submission server (RFC 6409). */
type MailServer = Readonly<{
  /** An IPv6 address has no brackets. */
  host: string;
  port: number;
  /** TLS from the first byte (RFC 8314, 3.3); otherwise STARTTLS. */
  isSecure: boolean;
  /** The server runs on this machine. */
  isLoopback: boolean;
  account: Readonly<{ user: string; password: string }> | null;
}>;

type SmtpSender = Readonly<{ name: string; address: string }>;

const PORTS: Readonly<Record<string, number>> = { 'smtp:': 587, 'smtps:': 465 };

const SENDER_NAME_MAX_CHARACTERS = 100;

/**
 * @returns the settings, or every error with its variable and the allowed values, never a password
 */
export function parseEmailSettings(values: {
  url: string | undefined;
  from: string | undefined;
  caFile: string | undefined;
  logoFile?: string | undefined;
}): { settings: EmailSettings } | { errors: string[] } {
  const errors: string[] = [];
  const server = parseServer(values.url ?? '');
  if (server === null) {
    errors.push('SMTP_URL must be smtp://USER:PASSWORD@HOST:587 (STARTTLS) or'
      + ' smtps://USER:PASSWORD@HOST:465 (TLS); USER:PASSWORD@ is optional, and'
      + ' characters such as @, / and # in it are written as %40, %2F and %23');
  }
  const from = parseSender(values.from ?? '');
  if (from === null) {
    errors.push('EMAIL_FROM must be ADDRESS or NAME <ADDRESS>, such as'
      + ' Acme <no-reply@example.com>');
  }
  const ca = values.caFile === undefined ? null : readCaFile('SMTP_CA', values.caFile, errors);
  if (server === null || from === null || errors.length > 0) return { errors };
  return { settings: Object.freeze({ server, from, ca, logoFile: values.logoFile ?? null }) };
}

function parseServer(text: string): MailServer | null {
  const url = URL.canParse(text) ? new URL(text) : null;
  const port = PORTS[url?.protocol ?? ''];
  if (url === null || port === undefined) return null;
  const host = hostOf(url);
  const account = parseAccount(url);
  const hasPath = !/^\/?$/.test(url.pathname) || /[?#]/.test(text);
  if (hasPath || !isHost(host) || url.port === '0' || account === undefined) return null;
  return Object.freeze({
    host, account,
    port: url.port === '' ? port : Number(url.port),
    isSecure: url.protocol === 'smtps:',
    isLoopback: isLoopbackHost(host),
  });
}

/** Without the brackets of an IPv6 address; '' when it has no form in ASCII. */
function hostOf({ hostname }: URL): string {
  try {
    // Schemes that the URL standard does not know keep other letters percent-encoded.
    return toAscii(decodeURIComponent(hostname)).replace(/^\[(.*)\]$/, '$1').toLowerCase();
  } catch {
    return '';
  }
}

/** Null without both; undefined when one is missing or is not percent-encoded. */
function parseAccount({ username, password }: URL): MailServer['account'] | undefined {
  if (username === '' && password === '') return null;
  try {
    const account = { user: decodeURIComponent(username), password: decodeURIComponent(password) };
    return account.user === '' || account.password === '' ? undefined : Object.freeze(account);
  } catch {
    return undefined;
  }
}

/** One label is enough, because hosts in a container network have no dot. */
function isHost(host: string): boolean {
  return isIP(host) !== 0 || /^[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9])?$/.test(host);
}

function parseSender(text: string): SmtpSender | null {
  const match = /^(?:"([^"]*)"|([^<>"]*)) ?<([^<>]*)>$/.exec(text);
  const [, quoted, plain, address = text] = match ?? [];
  const name = (quoted ?? plain ?? '').trim();
  const isName = [...name].length <= SENDER_NAME_MAX_CHARACTERS && !/\p{Cc}/u.test(name);
  const mailbox = toMailAddress(address);
  return isName && mailbox !== null ? Object.freeze({ name, address: mailbox }) : null;
}
