/** The console channel, for trying out: the message is printed where otpd was started. */
import type { Channel, SendResult, Templates } from './channel.ts';

const ACCEPTED: SendResult = Object.freeze({ kind: 'accepted' });

/**
 * Makes the channel. It takes every message; what is sent in one turn is printed in one go, because
 * each print is a system call.
 *
 * @param print writes one line, or several with line feeds between them, to the console
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
