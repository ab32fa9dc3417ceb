/** The message that carries a code to its user. It is the only place where a code appears. */

/** What a channel is given to send. */
export type Message = Readonly<{
  /** 32 hexadecimal digits. */
  otpId: string;
  userId: string;
  purpose: string;
  code: string;
  lifetimeSeconds: number;
}>;

/** Sends a message on its way. Must not throw: the code is already acknowledged in the database. */
export type Deliver = (message: Message) => void;

/** The words of a message. */
export function composeText({ purpose, code, lifetimeSeconds }: Message): string {
  return `${code} is your code for ${purpose}. It works for ${describe(lifetimeSeconds)}. ` +
    'Never share it with anyone.';
}

function describe(seconds: number): string {
  if (seconds % 60 !== 0) return `${seconds} seconds`;
  return seconds === 60 ? '1 minute' : `${seconds / 60} minutes`;
}
