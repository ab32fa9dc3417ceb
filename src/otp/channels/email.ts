/** The e-mail channel: SMTP through nodemailer, on a few connections that are kept. */
import { isIP } from 'node:net';
import type { Instant } from '../../db/instant.ts';
import { SEND_TIMEOUT_MS } from '../channel.ts';
import type { Channel, Message, Verdict, Words } from '../channel.ts';
import { domainOf, isPlainAddress } from './email-address.ts';
import type { EmailSettings } from './email-settings.ts';
import { verdictOf } from './email-verdict.ts';
import { loadNodemailer } from './nodemailer.ts';
import type { Nodemailer } from './nodemailer.ts';

const CONNECTIONS_MAX = 5;

/** A connection that nobody sends on is closed after that. */
const IDLE_TIMEOUT_MS = 60_000;

const MICROSECONDS_PER_MILLISECOND = 1000;

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
  words: Words,
  { timeoutMs = SEND_TIMEOUT_MS, load }: EmailOptions = {},
): Promise<Channel> {
  const { createTransport } = await loadNodemailer(load);
  const transport = createTransport(transportOptions(settings));
  const send = async (message: Message, sentAt: Instant): Promise<Verdict> => {
    if (!isPlainAddress(message.userId)) return { kind: 'refused', reason: 'no e-mail address' };
    const attempt = new AbortController();
    const timer = setTimeout(() => attempt.abort(), timeoutMs);
    try {
      const mail = composeMail(settings, words, message, sentAt);
      await transport.sendMail({ ...mail, signal: attempt.signal });
      return { kind: 'accepted' };
    } catch (error) {
      return verdictOf(error);
    } finally {
      clearTimeout(timer);
    }
  };
  return Object.freeze({
    name: 'email',
    wants: 'an e-mail address',
    reaches: isPlainAddress,
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
  words: Words,
  message: Message,
  sentAt: Instant,
): object {
  const { subject, text, html } = words.email(message);
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
