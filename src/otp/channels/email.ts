/** The e-mail channel: SMTP through nodemailer, on a few connections that are kept. */
import { isIP } from 'node:net';
import { SEND_TIMEOUT_MS } from './channel.ts';
import type { Channel, Message, SendResult, Templates } from './channel.ts';
import { MICROSECONDS_PER_MILLISECOND } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import { domainOf, isPlainAddress } from './email-settings.ts';
import type { EmailSettings } from './email-settings.ts';

const CONNECTIONS_MAX = 5;

/** A connection that nobody sends on is closed after that. */
const IDLE_TIMEOUT_MS = 60_000;

/** What tests change. */
export type EmailOptions = Readonly<{
  /** A whole attempt ends within, its waiting for a connection included. */
  timeoutMs?: number;
  load?: () => Promise<Nodemailer>;
}>;

/**
 * Makes the channel. No connection is opened before the first message.
 *
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
    if (!isPlainAddress(message.userId)) return { kind: 'refused', reason: 'no e-mail address' };
    const attempt = new AbortController();
    const timer = setTimeout(() => attempt.abort(), timeoutMs);
    try {
      const mail = composeMail(settings, templates, message, sentAt);
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
    accepts: isPlainAddress,
    send,
    close: () => transport.close({ force: true }),
  });
}

function transportOptions({ server, ca }: EmailSettings): object {
  const { host, port, isSecure, isLoopback, account } = server;
  // On this machine there is no wire to listen on, and mostly no certificate to be verified.
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
    // Only when the server has closed a kept connection before a byte of the message was sent.
    maxRequeues: 1,
    disableFileAccess: true,
    disableUrlAccess: true,
  };
}

/** A repeat has the same Message-ID, so that a mailbox can tell that it has the message. */
function composeMail(
  { from }: EmailSettings,
  templates: Templates,
  message: Message,
  sentAt: Instant,
): object {
  const { subject, text, html } = templates.email(message);
  return {
    from: { name: from.name, address: from.address },
    to: { name: '', address: message.userId },
    messageId: `<${message.otpId}@${domainOf(from.address)}>`,
    date: new Date(sentAt / MICROSECONDS_PER_MILLISECOND),
    subject,
    text,
    html,
    // No machine answers it, such as a note of absence (RFC 3834, 5).
    headers: { 'Auto-Submitted': 'auto-generated' },
    disableFileAccess: true,
    disableUrlAccess: true,
  };
}

/** The members of nodemailer's errors that are no text of the server. */
type SendError = Readonly<{
  code?: unknown;
  /** Of the system, where `code` says only that it was the socket. */
  originalCode?: unknown;
  /** What the server was answering. */
  command?: unknown;
  responseCode?: unknown;
  /** Whether the same message would get that answer again. */
  permanent?: unknown;
}>;

/** An answer to these is about this recipient or this message; to others, about us. */
const MESSAGE_COMMANDS: ReadonlySet<unknown> = new Set(['RCPT TO', 'DATA']);

/** Our own name and password, or the encryption, are at fault: that is not the message's. */
const OWN_ERROR_CODES: ReadonlySet<unknown> = new Set(['EAUTH', 'ENOAUTH', 'ETLS']);

/** What nodemailer says of a message that was taken back, as this does when its time is over. */
const ABORTED = 'EABORT';

/**
 * The verdict of a failed attempt.
 *
 * @param error of any kind
 * @returns refused for a permanent answer about the recipient or the message, else retry
 */
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

/** A code is a name in capitals; whatever else it were, it might be a text of the server. */
function readErrorCode(code: unknown): string | null {
  return typeof code === 'string' && /^[A-Z][A-Z0-9_]{2,60}$/.test(code) ? code : null;
}

/** The members that are used. */
type Nodemailer = Readonly<{ createTransport: (options: object) => Transport }>;

/** Connections to one server. */
type Transport = Readonly<{
  /** `signal` takes the message back, or breaks off the connection that it is being sent on. */
  sendMail: (mail: Readonly<{ signal: AbortSignal }>) => Promise<unknown>;
  /** Breaks off what is under way when forced. */
  close: (options: Readonly<{ force: boolean }>) => void;
}>;

/** In a name of its own, because the compiler must not look for it. */
const PACKAGE_NAME: string = 'nodemailer';

/**
 * Loads it from the packages that are installed.
 *
 * @param load for tests
 * @throws Error with what to do when it is not there
 */
async function loadNodemailer(
  load: () => Promise<Nodemailer> = () => import(PACKAGE_NAME),
): Promise<Nodemailer> {
  try {
    return await load();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'ERR_MODULE_NOT_FOUND' || !message.includes("'nodemailer'")) throw error;
    throw new Error('DELIVERY names email, which needs nodemailer: npm i nodemailer');
  }
}
