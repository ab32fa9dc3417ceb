/** The e-mail channel: SMTP through nodemailer over a few persistent connections. */
import { readFileSync, statSync } from 'node:fs';
import { isIP } from 'node:net';
import { addressOf, SEND_TIMEOUT_MS } from './channel.ts';
import type { Channel, Message, SendResult, Templates } from './channel.ts';
import { MICROSECONDS_PER_MILLISECOND } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { EmailSettings } from './email-settings.ts';
import { domainOf, toMailAddress } from './recipients.ts';
import { escapeMarkup } from '../templates/render.ts';

const CONNECTIONS_MAX = 5;

/** A connection that is idle for this long is closed. */
const IDLE_TIMEOUT_MS = 60_000;

/** Tests replace the package and shorten the timeout. */
export type EmailOptions = Readonly<{
  /** Bounds an attempt, the wait for a connection included. */
  timeoutMs?: number;
  load?: () => Promise<Nodemailer>;
}>;

/**
 * Opens no connection before the first message.
 * @throws Error when nodemailer is not installed, or the logo cannot be used
 */
export async function createEmailChannel(
  settings: EmailSettings,
  templates: Templates,
  { timeoutMs = SEND_TIMEOUT_MS, load }: EmailOptions = {},
): Promise<Channel> {
  const { createTransport } = await loadNodemailer(load);
  const logo = settings.logoFile === null ? null : readLogo(settings.logoFile);
  const transport = createTransport(transportOptions(settings));
  const send = async (message: Message, sentAt: Instant): Promise<SendResult> => {
    const to = toMailAddress(addressOf(message));
    if (to === null) return { kind: 'refused', reason: 'no e-mail address' };
    const attempt = new AbortController();
    const timer = setTimeout(() => attempt.abort(), timeoutMs);
    try {
      const mail = composeMail(settings, templates.email(message), message, { to, sentAt, logo });
      await transport.sendMail({ ...mail, signal: attempt.signal });
      return { kind: 'accepted' };
    } catch (error) {
      return emailSendResult(error);
    } finally {
      clearTimeout(timer);
    }
  };
  return Object.freeze({
    name: 'email',
    addressFormat: 'an e-mail address',
    accepts: (address) => toMailAddress(address) !== null,
    send,
    close: () => transport.close({ force: true }),
  });
}

function transportOptions({ server, ca }: EmailSettings): object {
  const { host, port, isSecure, isLoopback, account } = server;
  // Traffic on the loopback interface cannot be intercepted, and a local server rarely has a valid
  // certificate.
  const isPlain = !isSecure && isLoopback && ca === null;
  return {
    host,
    port,
    secure: isSecure,
    requireTLS: !isSecure && !isPlain,
    ignoreTLS: isPlain,
    tls: {
      minVersion: 'TLSv1.2',
      rejectUnauthorized: true,
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ...(ca === null ? {} : { ca }),
    },
    ...(account === null ? {} : { auth: { user: account.user, pass: account.password } }),
    pool: true,
    maxConnections: CONNECTIONS_MAX,
    idleTimeout: IDLE_TIMEOUT_MS,
    // nodemailer requeues a message only if the server closed an idle connection before any byte of
    // it.
    maxRequeues: 1,
    disableFileAccess: true,
    disableUrlAccess: true,
  };
}

/** Every attempt has the same Message-ID, so that the mailbox can detect a repeat. */
function composeMail(
  { from }: EmailSettings,
  { subject, text, html }: ReturnType<Templates['email']>,
  message: Message,
  { to, sentAt, logo }: Readonly<{ to: string; sentAt: Instant; logo: Logo | null }>,
): object {
  const cid = `logo@${domainOf(from.address)}`;
  return {
    from: { name: from.name, address: from.address },
    to: { name: '', address: to },
    messageId: `<${message.otpId}@${domainOf(from.address)}>`,
    date: new Date(sentAt / MICROSECONDS_PER_MILLISECOND),
    subject,
    text,
    html: logo === null ? html : withLogo(html, cid, from.name),
    ...(logo === null ? {} : { attachments: [{ ...logo, cid, contentDisposition: 'inline' }] }),
    // Suppresses automatic replies, such as out-of-office notices (RFC 3834, 5).
    headers: { 'Auto-Submitted': 'auto-generated' },
    disableFileAccess: true,
    disableUrlAccess: true,
  };
}

type Logo = Readonly<{ filename: string; contentType: string; content: Buffer }>;

/** An image travels with every message, so it must be small. */
const LOGO_MAX_BYTES = 64 * 1024;

/** The types that mail clients show, with the bytes that a file begins with. */
const LOGO_TYPES = [['png', '89504e470d0a1a0a'], ['jpeg', 'ffd8ff'], ['gif', '47494638']] as const;

/** @throws Error that names the variable and what is allowed */
function readLogo(path: string): Logo {
  const rule = `EMAIL_LOGO must name a PNG, JPEG or GIF file of at most ${LOGO_MAX_BYTES / 1024}`
    + ` KiB: ${path}`;
  const status = statSync(path, { throwIfNoEntry: false });
  if (status?.isFile() !== true || status.size > LOGO_MAX_BYTES) throw new Error(rule);
  const content = readFileSync(path);
  const start = content.toString('hex', 0, 8);
  const [type] = LOGO_TYPES.find(([, magic]) => start.startsWith(magic)) ?? [];
  if (type === undefined) throw new Error(rule);
  return Object.freeze({ filename: `logo.${type}`, contentType: `image/${type}`, content });
}

/** Puts the logo above the text. Its name, if it is not shown, is that of the sender. */
function withLogo(html: string, cid: string, name: string): string {
  const image = `<p><img src="cid:${cid}" alt="${escapeMarkup(name)}"`
    + ' style="max-height: 60px; max-width: 240px"></p>';
  const body = /<body\b[^>]*>/i.exec(html);
  const at = body === null ? 0 : body.index + body[0].length;
  return html.slice(0, at) + image + html.slice(at);
}

/** The members of a nodemailer error; the result contains no text from the server. */
type SendError = Readonly<{
  code?: unknown;
  /** The code of the system error when `code` names only the socket. */
  originalCode?: unknown;
  /** The command to which the server responded. */
  command?: unknown;
  responseCode?: unknown;
  /** True for a 5xx response, which the same message would get again. */
  permanent?: unknown;
  /** The response, which may begin with an enhanced code after the basic one. */
  response?: unknown;
}>;

/** Errors about the credentials, whatever the server responded. */
const ACCOUNT_ERROR_CODES: ReadonlySet<unknown> = new Set(['EAUTH', 'ENOAUTH']);

/** Errors before the server could respond to anything about the message. */
const TLS_ERROR_CODE = 'ETLS';

/** The code of nodemailer for a message that was aborted, here by the timeout. */
const ABORTED = 'EABORT';

/** The commands whose response may concern the recipient or the message. */
const MESSAGE_COMMANDS: ReadonlySet<unknown> = new Set(['RCPT TO', 'DATA']);

/**
 * Without an enhanced code, only these concern the recipient or the message (RFC 5321, 4.2.3;
 * RFC 7504). 554 often concerns the sender's reputation, and never one recipient.
 */
const MESSAGE_CODES: ReadonlySet<number> = new Set([550, 551, 552, 553, 556]);

/** An enhanced status code (RFC 3463, 2) after the basic code. */
const ENHANCED_CODE = /^5\d\d[ -](5\.(\d{1,3})\.\d{1,3})(?!\S)/;

/**
 * Whether an enhanced code concerns the recipient or the message, by its subject (RFC 3463, 3):
 * addresses except the sender's, mailboxes, size, routing and content do. The system, the protocol,
 * and security and policy (5.7) do not. Null for a code that leaves it to the basic one.
 */
function concernsMessage(enhanced: string, subject: string): boolean | null {
  if (enhanced === '5.1.7' || enhanced === '5.1.8') return false;
  if (enhanced === '5.3.4') return true;
  if (subject === '0' || enhanced === '5.5.0') return null;
  return ['1', '2', '4', '6'].includes(subject);
}

/**
 * - `refused`: a permanent error about the recipient or the message.
 * - `denied`: a permanent error about the account, the sender or a policy.
 * - `retry`: every other error.
 */
export function emailSendResult(error: unknown): SendResult {
  const {
    code, originalCode, command, responseCode, permanent, response,
  } = (error ?? {}) as SendError;
  const isAccountError = ACCOUNT_ERROR_CODES.has(code);
  if (typeof responseCode !== 'number' || isAccountError || code === TLS_ERROR_CODE) {
    const named = readErrorCode(originalCode) ?? readErrorCode(code) ?? 'unknown';
    const reason = code === ABORTED ? 'ETIMEDOUT' : named;
    const kind = isAccountError && permanent === true ? 'denied' : 'retry';
    return { kind, reason, afterSeconds: null };
  }
  const [, enhanced = null, subject = ''] = ENHANCED_CODE.exec(String(response)) ?? [];
  const reason = enhanced === null ? `smtp ${responseCode}` : `smtp ${responseCode} ${enhanced}`;
  if (permanent !== true) return { kind: 'retry', reason, afterSeconds: null };
  const byEnhanced = enhanced === null ? null : concernsMessage(enhanced, subject);
  const isRefused = byEnhanced ?? MESSAGE_CODES.has(responseCode);
  return isRefused && MESSAGE_COMMANDS.has(command) ? { kind: 'refused', reason }
    : { kind: 'denied', reason, afterSeconds: null };
}

/** Anything that is not a name in capitals might be text from the server. */
function readErrorCode(code: unknown): string | null {
  return typeof code === 'string' && /^[A-Z][A-Z0-9_]{2,60}$/.test(code) ? code : null;
}

/** The part of the interface of nodemailer that otpd uses. */
type Nodemailer = Readonly<{ createTransport: (options: object) => Transport }>;

type Transport = Readonly<{
  /** An abort removes the message from the queue or closes its connection. */
  sendMail: (mail: Readonly<{ signal: AbortSignal }>) => Promise<unknown>;
  /** With `force`, attempts in flight are aborted. */
  close: (options: Readonly<{ force: boolean }>) => void;
}>;

/** Typed as string, so that the compiler does not resolve the optional package. */
const PACKAGE: string = 'nodemailer';

/** @throws Error that names the missing package and the command to install it */
async function loadNodemailer(
  load: () => Promise<Nodemailer> = () => import(PACKAGE),
): Promise<Nodemailer> {
  try {
    return await load();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'ERR_MODULE_NOT_FOUND' || !message.includes("'nodemailer'")) throw error;
    throw new Error('DELIVERY names email, which needs nodemailer: npm i nodemailer');
  }
}
