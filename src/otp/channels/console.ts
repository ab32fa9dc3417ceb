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
      const line = `message to ${message.userId}: ${templates.text(message)}`;
      lines = printed === null ? line : `${lines}\n${line}`;
      printed ??= Promise.resolve().then(printAll);
      return printed;
    },
    close: () => {},
  };
}
