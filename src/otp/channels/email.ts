/** The e-mail channel: SMTP through nodemailer over a few persistent connections. */
import { isIP } from 'node:net';
import { SEND_TIMEOUT_MS } from './channel.ts';
import type { Channel, Message, SendResult, Templates } from './channel.ts';
import { MICROSECONDS_PER_MILLISECOND } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { EmailSettings } from './email-settings.ts';
import { domainOf, toMailAddress } from './recipients.ts';

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
 * @throws Error when nodemailer is not installed
 */
export async function createEmailChannel(
  settings: EmailSettings,
  templates: Templates,
  { timeoutMs = SEND_TIMEOUT_MS, load }: EmailOptions = {},
): Promise<Channel> {
  const { createTransport } = await loadNodemailer(load);
  const transport = createTransport(transportOptions(settings));
  const send = async (message: Message, sentAt: Instant): Promise<SendResult> => {
    const to = toMailAddress(message.userId);
    if (to === null) return { kind: 'refused', reason: 'no e-mail address' };
    const attempt = new AbortController();
    const timer = setTimeout(() => attempt.abort(), timeoutMs);
    try {
      const mail = composeMail(settings, templates, message, to, sentAt);
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
    accepts: (userId) => toMailAddress(userId) !== null,
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
  templates: Templates,
  message: Message,
  to: string,
  sentAt: Instant,
): object {
  const { subject, text, html } = templates.email(message);
  return {
    from: { name: from.name, address: from.address },
    to: { name: '', address: to },
    messageId: `<${message.otpId}@${domainOf(from.address)}>`,
    date: new Date(sentAt / MICROSECONDS_PER_MILLISECOND),
    subject,
    text,
    html,
    // Suppresses automatic replies, such as out-of-office notices (RFC 3834, 5).
    headers: { 'Auto-Submitted': 'auto-generated' },
    disableFileAccess: true,
    disableUrlAccess: true,
  };
}

/** The members of a nodemailer error that contain no text from the server. */
type SendError = Readonly<{
  code?: unknown;
  /** The code of the system error when `code` names only the socket. */
  originalCode?: unknown;
  /** The command to which the server responded. */
  command?: unknown;
  responseCode?: unknown;
  /** True for a 5xx response, which the same message would get again. */
  permanent?: unknown;
}>;

/** A permanent error in response to these commands concerns the recipient or the message. */
const MESSAGE_COMMANDS: ReadonlySet<unknown> = new Set(['RCPT TO', 'DATA']);

/** Errors about our own credentials or about TLS do not concern the message. */
const OWN_ERROR_CODES: ReadonlySet<unknown> = new Set(['EAUTH', 'ENOAUTH', 'ETLS']);

/** The code of nodemailer for a message that was aborted, here by the timeout. */
const ABORTED = 'EABORT';

/** Refused for a permanent error about the recipient or the message, otherwise retry. */
export function emailSendResult(error: unknown): SendResult {
  const { code, originalCode, command, responseCode, permanent } = (error ?? {}) as SendError;
  if (typeof responseCode !== 'number' || OWN_ERROR_CODES.has(code)) {
    const named = readErrorCode(originalCode) ?? readErrorCode(code) ?? 'unknown';
    const reason = code === ABORTED ? 'ETIMEDOUT' : named;
    return { kind: 'retry', reason, afterSeconds: null };
  }
  const reason = `smtp ${responseCode}`;
  if (permanent === true && MESSAGE_COMMANDS.has(command)) return { kind: 'refused', reason };
  return { kind: 'retry', reason, afterSeconds: null };
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
