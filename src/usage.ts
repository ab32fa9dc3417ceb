/** What the command line takes. */
import { remark, say } from './terminal.ts';

const USAGE = `usage: otpd COMMAND
  serve                  answer requests, with a private MySQL unless DB_HOST or DB_SOCKET is set
  migrate                bring the database to the schema of this otpd
  doctor                 check the configuration, MySQL, the schema and the channels
  show USER              limits, locks, wrong attempts and open codes of a user
  unlock USER PURPOSE    end a lock and forget the wrong attempts
  cancel OTP_ID          close a code that was not redeemed yet
  secret new [ID]        draw a server secret for OTP_SECRETS
  key new NAME [SCOPES]  make a key for a caller, of request+verify+read unless told
  help                   print this
doctor, show, unlock and cancel print text on a terminal and one JSON object elsewhere: --json and
--text decide. -- ends the options. They exit with 0 when it is done or all is well, 1 when not, and
every command with 2 when it is called wrongly. Every variable is explained in .env.example.`;

/** How a process ends whose command line is wrong. */
const WRONG_USAGE = 2;

/** Prints it for who asks for it. */
export function help(): number {
  say(USAGE);
  return 0;
}

/**
 * Prints it for who has called otpd wrongly.
 *
 * @param reason what is wrong
 */
export function refuse(reason: string): number {
  remark(`otpd: ${reason}\n${USAGE}`);
  return WRONG_USAGE;
}
