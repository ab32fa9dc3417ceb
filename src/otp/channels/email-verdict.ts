/** What became of a message, by the error that sending it ended with (RFC 5321, 4.2.1). */
import type { Verdict } from '../channel.ts';

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
const ABOUT_THE_MESSAGE: ReadonlySet<unknown> = new Set(['RCPT TO', 'DATA']);

/** Our own name and password, or the encryption, are at fault: that is not the message's. */
const ABOUT_US: ReadonlySet<unknown> = new Set(['EAUTH', 'ENOAUTH', 'ETLS']);

/** What nodemailer says of a message that was taken back, as this does when its time is over. */
const ABORTED = 'EABORT';

/**
 * The verdict of a failed attempt.
 *
 * @param error of any kind
 * @returns refused for a permanent answer about the recipient or the message, else retry
 */
export function verdictOf(error: unknown): Verdict {
  const { code, originalCode, command, responseCode, permanent } = (error ?? {}) as SendError;
  if (typeof responseCode !== 'number' || ABOUT_US.has(code)) {
    const reason = code === ABORTED ? 'ETIMEDOUT' : nameOf(originalCode) ?? nameOf(code);
    return { kind: 'retry', reason: reason ?? 'unknown', afterSeconds: null };
  }
  const reason = `smtp ${responseCode}`;
  if (permanent === true && ABOUT_THE_MESSAGE.has(command)) return { kind: 'refused', reason };
  return { kind: 'retry', reason, afterSeconds: null };
}

/** A code is a name in capitals; whatever else it were, it might be a text of the server. */
function nameOf(code: unknown): string | null {
  return typeof code === 'string' && /^[A-Z][A-Z0-9_]{2,60}$/.test(code) ? code : null;
}
