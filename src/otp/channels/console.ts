/** The console channel, for development: prints each message to the terminal of otpd. */
import type { Channel, SendResult, Templates } from './channel.ts';

const ACCEPTED: SendResult = Object.freeze({ kind: 'accepted' });

/**
 * Messages that are sent in one turn of the event loop are printed together, because each call of
 * `print` is a system call.
 */
export function createConsoleChannel(
  print: (lines: string) => void,
  templates: Templates,
): Channel {
  let lines = '';
  let printed: Promise<SendResult> | null = null;
  const printAll = (): SendResult => {
    const all = lines;
    lines = '';
    printed = null;
    print(all);
    return ACCEPTED;
  };
  return {
    name: 'console',
    addressFormat: null,
    accepts: () => true,
    send: (message) => {
      const line = `message to ${quoteAddress(message.userId)}: ${templates.text(message)}`;
      lines = printed === null ? line : `${lines}\n${line}`;
      printed ??= Promise.resolve().then(printAll);
      return printed;
    },
    close: () => {},
  };
}

/**
 * Quotes and escapes a user_id of other characters, which might otherwise forge a line or its text
 * or send control sequences to the terminal.
 */
function quoteAddress(userId: string): string {
  if (/^[\w.@+-]+$/.test(userId)) return userId;
  return JSON.stringify(userId).replace(/[^\x20-\x7e]/g, (unit) =>
    `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
