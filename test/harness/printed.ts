/** What otpd prints: messages with their codes, lines of the log, and what it says to a person. */

/** The message with the code is for the user; all else must hold no code. */
const MESSAGE_LINE = /^message to [^\n]*: (\d+) is your code for .*\n/gm;

/** A line of the log, where standard error is no terminal. */
const LOG_LINE = /^\{"time":.*\n/gm;

/** The codes of messages, in order. */
export function codesIn(output: string): string[] {
  return [...output.matchAll(MESSAGE_LINE)].map(([, code]) => code!);
}

/** All but the messages. */
export function withoutMessages(output: string): string {
  return output.replace(MESSAGE_LINE, '');
}

/** All but the log, which comes by another way, and so at another time. */
export function withoutLog(output: string): string {
  return output.replace(LOG_LINE, '');
}
