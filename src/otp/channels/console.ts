/** The console channel, for development: prints each message to the terminal of otpd. */
import { ACCEPTED, addressOf } from './channel.ts';
import type { Channel, SendResult, Templates } from './channel.ts';

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
      const line = `message to ${quoteAddress(addressOf(message))}: ${templates.text(message)}`;
      lines = printed === null ? line : `${lines}\n${line}`;
      printed ??= Promise.resolve().then(printAll);
      return printed;
    },
    close: () => {},
  };
}

/** Other characters might forge a line, or send control sequences to the terminal. */
function quoteAddress(address: string): string {
  return /^[\w.@+-]+$/.test(address) ? address : quoteAscii(address);
}

/** Quotes a text as a JSON string in printable ASCII. */
export function quoteAscii(text: string): string {
  return JSON.stringify(text).replace(/[^\x20-\x7e]/g, (unit) =>
    `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
